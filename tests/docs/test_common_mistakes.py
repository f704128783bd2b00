"""docs/how-to/common-mistakes.md: each mistake is made, and what an operator is told is what the page says."""

from __future__ import annotations

import re
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from qcompute.axon.server import axon_server
from qcompute.axon.settings import AxonSettings
from qcompute.chain.contract import Metagraph
from qcompute.chain.keys import load_signer
from qcompute.chain.settings import WalletSettings
from qcompute.connections.checks import checked
from qcompute.connections.definitions import Definition
from qcompute.connections.findings import Finding as Seen
from qcompute.connections.findings import Grade, failure
from qcompute.console.doctor import platform, subnet
from qcompute.console.doctor.findings import Finding, Level
from qcompute.errors import AuthFailed, ConfigError, Unavailable
from qcompute.jobserver.settings import JobServerSettings
from qcompute.ledger import open_ledger
from qcompute.ledger.failures import translated
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.budget import Budget
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers import registry
from qcompute.miner.settings_load import load_from
from qcompute.units import ExecutionId, Money, ProviderKey, utc_now
from tests.doubles.kits import kit
from tests.unit.console.doctor.servers import settings, wallet
from tests.unit.console.doctor.test_subnet import Said, let_chain
from tests.unit.miner.scripted import Scene
from tests.unit.miner.test_intake import intake, request

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "common-mistakes.md"
ROW: Final = re.compile(r"^\| (?P<mistake>[^|]+) \| [^|]+ \| (?P<message>[^|]+) \|$", re.MULTILINE)
ROWS: Final = {row["mistake"]: row["message"] for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
NOBODY: Final = JobServerSettings(url="http://127.0.0.1:9", tensorauth_url="http://127.0.0.1:9")


def refused(error: pytest.ExceptionInfo[ConfigError]) -> str:
    return str(error.value)


def bad(findings: list[Seen] | list[Finding]) -> str:
    """The one line that is wrong, with its fix behind it."""
    told = [
        f"{one.text}: {one.fix}" if isinstance(one, Seen) else f"{one.words}: {one.fix}"
        for one in findings
        if (one.grade is Grade.FAILED if isinstance(one, Seen) else one.level is Level.FAILED)
    ]
    assert len(told) == 1, findings
    return told[0]


class Maker:
    """Makes each mistake; a method's name is the mistake's, and its answer the message."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._caplog = caplog

    async def wrong_wallet(self) -> str:
        with pytest.raises(ConfigError) as error:
            load_signer(WalletSettings(name="nobody", path=self._folder))
        return refused(error)

    async def not_registered(self) -> str:
        ours = wallet(self._folder)
        let_chain(self._monkeypatch, Said(Metagraph(48, 1, datetime.now(UTC), {})))
        return bad(await subnet.chain(settings(self._folder, chain={}), ours))

    async def port_taken(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as other:
            server = axon_server(AxonSettings(ip="127.0.0.1", port=other.getsockname()[1]), _never)
            with pytest.raises(ConfigError) as error:
                await server.start()
        return refused(error)

    async def clock_off(self) -> str:
        return bad([platform.clock(300.0)])

    async def missing_extra(self) -> str:
        there: Callable[[str], bool] = registry._is_there

        def is_there(module: str) -> bool:
            return module != "boto3" and there(module)

        self._monkeypatch.setattr(registry, "_is_there", is_there)
        with pytest.raises(ConfigError) as error:
            registry.open_adapter("braket", {})
        return refused(error)

    async def wrong_key(self) -> str:
        return bad(self._at_ionq(api_key="wrong-key-of-another-project"))

    async def expired_key(self) -> str:
        return bad([failure(AuthFailed("the token service refused", vendor_code="AADSTS7000222"))])

    async def device_retired(self) -> str:
        return bad(self._at_ionq(settings={"backends": ["qpu.forte-1", "qpu.aria-1"]}))

    def _at_ionq(self, *, settings: dict[str, Any] | None = None, **values: str) -> list[Seen]:
        vendor = kit("ionq")
        with vendor.double() as double:
            for name, value in vendor.variables(double).items():
                self._monkeypatch.setenv(name, value)
            table = vendor.table(double) | (settings or {})
            secret = {name: next(iter(values.values())) for name in vendor.secrets} if values else {}
            return checked("one", Definition(provider="ionq", settings=table), self._folder, values=secret)

    async def budget_spent(self) -> str:
        budget = Budget(ProviderKey("ibm"), BudgetSettings.model_validate({"per_day": "10"}), clock=utc_now)
        budget.reserve(ExecutionId("a"), Money(Decimal(10), "USD"))
        return self._caplog.records[-1].getMessage()

    async def job_server_down(self) -> str:
        found, _ = await platform.job_server(NOBODY)
        return bad([found])

    async def chain_down(self) -> str:
        let_chain(self._monkeypatch, Said(Unavailable("the chain did not answer within 30 s")))
        return bad(await subnet.chain(settings(self._folder, chain={}), wallet(self._folder)))

    async def disk_full(self) -> str:
        database = sqlite3.connect(self._folder / "small.sqlite3")
        try:
            database.execute("PRAGMA max_page_count = 2")
            database.execute("CREATE TABLE jobs (text)")
            with pytest.raises(sqlite3.OperationalError) as error:
                database.execute("INSERT INTO jobs VALUES (zeroblob(100000))")
        finally:
            database.close()
        return str(translated(error.value))

    async def old_database(self) -> str:
        file = self._folder / "miner_5F.db"
        database = sqlite3.connect(file)
        database.execute("CREATE TABLE finished_jobs (id TEXT)")
        database.commit()
        database.close()
        with pytest.raises(ConfigError) as error:
            open_ledger(LedgerSettings(path=file))
        return refused(error)

    async def unknown_setting(self) -> str:
        with pytest.raises(ConfigError) as error:
            load_from(
                ["--axon.prot", "8091"], {"JOB_SERVER_URL": NOBODY.url, "TENSORAUTH_URL": NOBODY.url}, self._folder
            )
        return refused(error)

    async def no_shots(self) -> str:
        scene = Scene()
        try:
            answer = await intake(scene)(request("job-1", 1, shots=0))
        finally:
            await scene.close()
        assert not answer.success
        return answer.error_message or ""


async def _never(*_: object) -> None:
    raise AssertionError("nothing is served")


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Maker:
    return Maker(tmp_path, monkeypatch, caplog)


def test_the_page_has_fifteen() -> None:
    assert len(ROWS) - 1 == 15, ROWS  # the head of the table is one


@pytest.mark.parametrize("mistake", [name for name in ROWS if name != "mistake"])
async def test_the_message_is_the_page_s(maker: Maker, mistake: str) -> None:
    make: Callable[[], Awaitable[str]] = getattr(maker, mistake.replace(" ", "_"))
    message = await make()
    expected = ".*".join(map(re.escape, ROWS[mistake].split("…")))
    assert re.fullmatch(expected, message), message
    assert "\n" not in message
