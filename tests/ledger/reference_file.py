"""A database as the subnet's reference miner leaves it: one table, in our own words for its columns and values."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

_STATUSES: Final = ("Pending", "Queued", "Running", "Completed", "Failed")

COLUMNS: Final = {
    "execution_id": "TEXT PRIMARY KEY",
    "upload_data_id": "TEXT",
    "validator_hotkey": "TEXT",
    "provider": "TEXT",
    "provider_job_id": "TEXT",
    "device_id": "TEXT",
    "status": f"TEXT CHECK (status IN {_STATUSES})",
    "errorMessage": "TEXT",
    "cost": "REAL",
    "shots": "INTEGER",
    "timestamp": "DATETIME",
    "timestamps_json": "TEXT",
    "metadata_json": "TEXT",
    "completed_at": "DATETIME",
}

NOW: Final = datetime.now(UTC).replace(microsecond=0)


def at(seconds_ago: float) -> str:
    """A time as the reference writes it."""
    return f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%d %H:%M:%S}"


def completed(execution_id: str, seconds_ago: float, **more: Any) -> dict[str, Any]:
    """A finished row with a result."""
    row = {
        "execution_id": execution_id,
        "upload_data_id": f"up-{execution_id}",
        "validator_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "provider": "openquantum",
        "provider_job_id": f"theirs-{execution_id}",
        "device_id": "qpu-1",
        "status": "Completed",
        "cost": 1.25,
        "shots": 100,
        "timestamp": at(seconds_ago),
        "timestamps_json": '{"createdAt": "x"}',
        "metadata_json": "{}",
        "completed_at": at(seconds_ago),
    }
    return row | more


def failed(execution_id: str, seconds_ago: float, message: str | None, **more: Any) -> dict[str, Any]:
    """A finished row without one; the reference drops its shots."""
    without = {"upload_data_id": None, "status": "Failed", "errorMessage": message, "shots": None, "cost": None}
    return completed(execution_id, seconds_ago) | without | more


def under_way(execution_id: str, seconds_ago: float, status: str, **more: Any) -> dict[str, Any]:
    """A row whose job is not finished; the reference notes a provider only when it has a default device."""
    row = {
        "execution_id": execution_id,
        "validator_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "status": status,
        "shots": 100,
        "timestamp": at(seconds_ago),
    }
    return row | more


def write(file: Path, rows: list[dict[str, Any]], *, without: str | None = None) -> Path:
    """The file with these rows; ``without`` leaves a column out."""
    columns = [f'"{name}" {kind}' for name, kind in COLUMNS.items() if name != without]
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"CREATE TABLE executions ({', '.join(columns)})")
        connection.execute("CREATE INDEX idx_completed_at ON executions(completed_at)")
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO executions ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608 - a test's own
    return file
