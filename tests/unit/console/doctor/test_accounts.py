"""What the doctor says of the accounts; and the whole page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from qcompute.console.doctor import accounts, examine
from qcompute.console.doctor.findings import Level, is_healthy
from qcompute.errors import AuthFailed, QComputeError, QuotaSpent, Unavailable
from qcompute.miner.commands import CommandSocket, OperatorCommands, socket_file
from qcompute.miner.providers.base import AvailabilityStatus
from qcompute.miner.providers.mock import MockAdapter
from tests.unit.console.doctor.servers import settings

DEVICES: list[dict[str, Any]] = [
    {
        "account": "ibm",
        "vendor": "ibm",
        "offline_because": None,
        "problem": None,
        "devices": [{"device_id": "ibm_fez"}],
    },
    {"account": "lab", "vendor": "rest", "offline_because": "it does not answer", "problem": None, "devices": []},
]


async def test_an_account_and_its_devices(tmp_path: Path) -> None:
    found = await accounts.accounts(settings(tmp_path))
    assert [(one.subject, one.level) for one in found] == [("account mock: devices", Level.OK)]


async def test_a_provider_nobody_knows(tmp_path: Path) -> None:
    (found,) = await accounts.accounts(settings(tmp_path, provider="qcloud"))
    assert found.level is Level.FAILED
    assert "qcloud" in found.words


async def test_a_setting_the_provider_does_not_have(tmp_path: Path) -> None:
    (found,) = await accounts.accounts(settings(tmp_path, providers={"mock": {"laetncy_seconds": 1}}))
    assert found.words.startswith("providers.mock.laetncy_seconds")


@pytest.mark.parametrize(
    ("error", "subject", "words", "fix"),
    [
        (AuthFailed("key expired"), "identity", "the key has expired", "make a new one"),
        (QuotaSpent("no minutes left"), "quota", "nothing may be spent: no minutes left", "raise the limit"),
        (Unavailable("ConnectError"), "reachable", "no network, or nothing is at that address", "check the network"),
    ],
)
async def test_what_a_vendor_refuses(  # noqa: PLR0917 - a case
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: QComputeError, subject: str, words: str, fix: str
) -> None:
    def refuses(_: MockAdapter) -> Any:
        raise error

    monkeypatch.setattr(MockAdapter, "list_devices", refuses)
    (found,) = await accounts.accounts(settings(tmp_path))
    assert (found.subject, found.level) == (f"account mock: {subject}", Level.FAILED)
    assert found.words.startswith(words)
    assert fix in found.fix


async def test_a_device_that_is_away_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = AvailabilityStatus(
        availability="MAINTENANCE", is_available=False, pending_jobs=4, next_available="2026-12-01T08:00:00Z"
    )

    def says(_: MockAdapter, device_id: str | None = None) -> AvailabilityStatus:
        del device_id
        return away

    monkeypatch.setattr(MockAdapter, "get_availability", says)
    found = await accounts.accounts(settings(tmp_path))
    assert is_healthy(found)
    away_line = next(one for one in found if one.level is Level.WARNING)
    assert "MAINTENANCE" in away_line.words


async def test_a_daemon_that_runs_is_asked_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an account twice could start a second driver, or wait for a lock the daemon has."""

    async def devices() -> list[dict[str, Any]]:
        return DEVICES

    def never(_: object) -> Any:
        raise AssertionError("the accounts are the daemon's")

    monkeypatch.setattr(accounts, "open_fleet", never)
    ours = settings(tmp_path)
    ours.ledger.file.parent.mkdir(parents=True)
    answers = {"devices": devices}
    daemon = CommandSocket(socket_file(ours.ledger.file), cast("OperatorCommands", None), answers)
    await daemon.start()
    try:
        ibm, lab = await accounts.accounts(ours)
    finally:
        await daemon.stop()
    assert (ibm.level, ibm.words) == (Level.OK, "the running miner uses ibm_fez")
    assert (lab.level, lab.words) == (Level.FAILED, "the running miner cannot use it: it does not answer")


async def test_the_whole_page_of_a_machine_with_nothing_set_up(tmp_path: Path) -> None:
    found = await examine(settings(tmp_path, axon={"ip": "127.0.0.1", "port": 9}))
    by_subject = {one.subject: one.level for one in found}
    assert list(by_subject)[:5] == ["python", "disk", "ledger", "clock", "wallet"]
    failing = {"wallet", "chain", "job server"}
    assert {subject for subject in failing if by_subject[subject] is Level.FAILED} == failing
    assert all(one.fix for one in found if one.level is not Level.OK)
    assert not is_healthy(found)
