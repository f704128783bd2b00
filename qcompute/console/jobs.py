"""``qcompute jobs …``: look at jobs, and decide about those that are held."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from qcompute.console.arguments import EXIT_OK
from qcompute.errors import ConfigError
from qcompute.ledger import open_ledger
from qcompute.ledger.backup import reading, revision_of
from qcompute.ledger.failures import translated
from qcompute.ledger.rows import job_from
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.commands import Adopt, CommandRefused, Fail, OperatorCommands, Release, socket_file, tell_daemon
from qcompute.miner.job import Job, State
from qcompute.miner.operator import job_document
from qcompute.miner.road import Road
from qcompute.miner.settings import Settings
from qcompute.protocol import ExecutionStatus
from qcompute.units import ProviderKey, utc_now

_ERROR_WIDTH: Final = 70


def run(wish: Namespace, settings: Settings) -> int:
    """Do one command of the group and return the exit code.

    Raises:
        ConfigError: a file or an argument will not do.
        StoreError: the database failed.
        CommandRefused: this cannot be done with this job now.
    """
    if settings.ledger.url is not None and wish.command in ("list", "show"):
        raise ConfigError(
            f"qcompute jobs {wish.command} reads SQLite files only, and ledger.url is set: ask the daemon's operator "
            "port (GET /jobs/ID), or the database itself"
        )
    match wish.command:
        case "list":
            return _list(wish, settings)
        case "show":
            return _show(wish, settings)
        case _:
            return _decide(wish, settings)


def _list(wish: Namespace, settings: Settings) -> int:
    where, values = ("WHERE state = ?", [wish.state]) if wish.state else ("", list[Any]())
    jobs = _read(settings, f"{where} ORDER BY received_at DESC, execution_id LIMIT ?", [*values, wish.limit])
    if wish.json:
        for job in jobs:
            sys.stdout.write(json.dumps(job_document(job)) + "\n")
        return EXIT_OK
    rows = [("ID", "STATE", "RECEIVED", "AT", "VENDOR'S JOB", "WHY"), *(_row(job) for job in jobs)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, row[5]]).rstrip() + "\n")
    return EXIT_OK


def _row(job: Job) -> tuple[str, ...]:
    state = f"{job.state} {job.verdict}" if job.verdict else str(job.state)
    why = f"{job.error_code}: {job.error}" if job.error_code else ""
    if job.state is State.HELD:
        why = f"until {job.due_at:%m-%d %H:%M} UTC: {why}"
    place = "/".join(part for part in (job.provider, job.device_id) if part) or "-"
    received = f"{job.received_at:%Y-%m-%d %H:%M:%S}"
    return job.execution_id, state, received, place, job.provider_job_id or "-", why[:_ERROR_WIDTH]


def _show(wish: Namespace, settings: Settings) -> int:
    found = _read(settings, "WHERE execution_id = ?", [wish.execution_id])
    if not found:
        raise CommandRefused(f"there is no job {wish.execution_id} in {settings.ledger.file}")
    sys.stdout.write(json.dumps(job_document(found[0]), indent=2, ensure_ascii=False) + "\n")
    return EXIT_OK


def _read(settings: Settings, rest: str, values: Sequence[Any]) -> list[Job]:
    """Jobs as they are on disk, whoever works on them; without their URLs, so no key is needed."""
    file = settings.ledger.file
    try:
        with reading(file) as connection:
            revision_of(connection, file)
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM jobs {rest}", values)  # noqa: S608 - fixed words, values bound
            return [job_from({"prepared": None, **dict(row), "input_data_url": None}) for row in rows]
    except sqlite3.Error as error:
        raise translated(error) from error


def _decide(wish: Namespace, settings: Settings) -> int:
    command = _command(wish)
    answer = tell_daemon(socket_file(settings.ledger.file), command)
    if answer is None:
        # Nobody listens: the ledger's own lock says whether that is because no daemon runs.
        state = asyncio.run(_directly(command, settings))
    elif answer.get("ok"):
        state = State(answer["state"])
    else:
        raise CommandRefused(str(answer.get("message")))
    sys.stdout.write(f"{wish.execution_id} is {state}\n")
    return EXIT_OK


def _command(wish: Namespace) -> Release | Fail | Adopt:
    given = {"execution_id": wish.execution_id, "reason": wish.reason}
    try:
        match wish.command:
            case "release":
                return Release(**given, never_submitted=wish.never_submitted)
            case "fail":
                return Fail(**given)
            case _:
                return Adopt(**given, provider_job_id=wish.provider_job_id)
    except ValueError as error:
        raise ConfigError("an id, or the reason, is empty or too long") from error


async def _directly(command: Release | Fail | Adopt, settings: Settings) -> State:
    """With no daemon running, do it to the ledger."""
    if settings.ledger.url is None and not settings.ledger.file.exists():
        raise ConfigError(f"there is no ledger {settings.ledger.file}; name another with --ledger.path")
    from qcompute.chain.keys import load_signer  # noqa: PLC0415 - bittensor is loaded only to sign

    signer = load_signer(settings.wallet)
    ledger = open_ledger(settings.ledger)
    try:
        provider = ProviderKey(settings.provider)
        budget = Budget(provider, settings.budget, clock=utc_now)
        await budget.load(ledger)
        road = Road(ledger, signer, _Silent(), budgets=Budgets([budget]), clock=utc_now)
        return (await OperatorCommands(road, provider).run(command, uid=os.getuid())).state
    finally:
        await ledger.close()


class _Silent:
    """No telemetry: the daemon is not running."""

    def status_changed(self, job: Job, old: ExecutionStatus, new: ExecutionStatus) -> None:
        """Tell nobody."""
