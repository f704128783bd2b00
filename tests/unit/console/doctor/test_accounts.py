"""What the doctor says of the accounts; and the whole page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcompute.console.doctor import accounts, examine
from qcompute.console.doctor.findings import Level, is_healthy
from qcompute.errors import AuthFailed, QComputeError, QuotaSpent, Unavailable
from qcompute.miner.providers.base import AvailabilityStatus
from qcompute.miner.providers.mock import MockAdapter
from tests.unit.console.doctor.servers import answering, settings

HEALTH: dict[str, Any] = {
    "status": "ok",
    "version": "1",
    "uptime_seconds": 5,
    "jobs": {},
    "metagraph_age_seconds": None,
    "chain_failing": False,
    "provider": "cluster",
    "devices": ["a"],
    "accounts": [
        {"name": "ibm", "vendor": "ibm", "offline_because": None, "devices": ["ibm_fez"]},
        {"name": "lab", "vendor": "rest", "offline_because": "it does not answer", "devices": []},
    ],
}


async def test_an_account_and_its_devices(tmp_path: Path) -> None:
    found = await accounts.accounts(settings(tmp_path))
    assert found[0].subject == "provider mock"
    assert {one.level for one in found} == {Level.OK}
    assert any(one.subject.startswith("device ") for one in found)


async def test_a_provider_nobody_knows(tmp_path: Path) -> None:
    (found,) = await accounts.accounts(settings(tmp_path, provider="qcloud"))
    assert found.level is Level.FAILED
    assert "qcloud" in found.words


async def test_a_setting_the_provider_does_not_have(tmp_path: Path) -> None:
    (found,) = await accounts.accounts(settings(tmp_path, providers={"mock": {"laetncy_seconds": 1}}))
    assert found.words.startswith("providers.mock.laetncy_seconds")


@pytest.mark.parametrize(
    ("error", "words", "fix"),
    [
        (AuthFailed("key expired"), "the credentials are not accepted: key expired", "make a new key"),
        (QuotaSpent("no minutes left"), "the account may not spend more: no minutes left", "raise the limit"),
        (Unavailable("no answer"), "no answer", "status page"),
    ],
)
async def test_what_a_vendor_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: QComputeError, words: str, fix: str
) -> None:
    def refuses(_: MockAdapter) -> Any:
        raise error

    monkeypatch.setattr(MockAdapter, "list_devices", refuses)
    (found,) = await accounts.accounts(settings(tmp_path))
    assert (found.level, found.words) == (Level.FAILED, words)
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
    assert (found[1].level, found[1].words) == (Level.WARNING, "MAINTENANCE, 4 jobs before ours")
    assert "2026-12-01" in found[1].fix


async def test_a_daemon_that_runs_is_asked_instead(tmp_path: Path) -> None:
    """Opening an account twice could start a second driver, or wait for a lock the daemon has."""
    async with answering(HEALTH) as port:
        ibm, lab = await accounts.accounts(settings(tmp_path, operator={"port": port}))
    assert (ibm.level, ibm.words) == (Level.OK, "the running miner uses ibm_fez")
    assert (lab.level, lab.words) == (Level.FAILED, "the running miner has it offline: it does not answer")


async def test_the_whole_page_of_a_machine_with_nothing_set_up(tmp_path: Path) -> None:
    found = await examine(settings(tmp_path, axon={"ip": "127.0.0.1", "port": 9}))
    by_subject = {one.subject: one.level for one in found}
    assert list(by_subject)[:4] == ["python", "disk", "clock", "wallet"]
    failing = {"wallet", "chain", "job server"}
    assert {subject for subject in failing if by_subject[subject] is Level.FAILED} == failing
    assert all(one.fix for one in found if one.level is not Level.OK)
    assert not is_healthy(found)
