"""What the doctor says of the machine: room, the axon's port, the way in from outside."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from qcompute.axon.settings import AxonSettings
from qcompute.console.doctor import machine
from qcompute.console.doctor.findings import Finding, Level, is_healthy
from qcompute.ledger import open_ledger
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.settings import LedgerSettings
from tests.ledger.postgres_server import empty_database, shared_server
from tests.unit.console.doctor.servers import answering


@contextmanager
def taken() -> Generator[int]:
    """A port somebody else listens on, who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with taken() as number:
        return number


def axon(number: int, **more: object) -> AxonSettings:
    return AxonSettings.model_validate({"ip": "127.0.0.1", "port": number, **more})


def test_python_and_bittensor_are_named() -> None:
    found = machine.python()
    assert found.level is Level.OK
    assert "bittensor 11." in found.words


@pytest.mark.parametrize(("free", "level"), [(100 << 20, Level.FAILED), (1 << 30, Level.WARNING), (50 << 30, Level.OK)])
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    usage = shutil.disk_usage(tmp_path)

    def room(_: Path) -> object:
        return type(usage)(usage.total, usage.used, free)

    monkeypatch.setattr(shutil, "disk_usage", room)
    found = machine.disk(tmp_path / "not" / "made" / "yet")
    assert found.level is level
    assert f"{free / (1 << 30):.1f} GiB free" in found.words
    assert bool(found.fix) == (level is not Level.OK)


def test_a_folder_that_cannot_be_written_names_its_setting() -> None:
    found = machine.disk(Path("/proc/miner"))
    assert found.level is Level.FAILED
    assert "neuron.full_path" in found.fix


async def test_a_free_port_is_fine_and_left_free() -> None:
    number = free_port()
    assert (await machine.port(axon(number))).level is Level.OK
    assert (await machine.port(axon(number))).level is Level.OK


async def test_a_port_that_another_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 0.3)
    with taken() as number:
        found = await machine.port(axon(number))
    assert found.level is Level.FAILED
    assert "--axon.port" in found.fix


async def test_a_port_that_a_miner_has_already() -> None:
    async with answering({"accepting_jobs": True}) as number:
        found = await machine.port(axon(number))
    assert found == Finding("axon port", Level.OK, f"a miner serves on 127.0.0.1:{number}")


async def test_a_port_that_another_web_server_has() -> None:
    async with answering(["hello"]) as number:
        assert (await machine.port(axon(number))).level is Level.FAILED


async def test_an_address_of_another_machine_cannot_be_bound() -> None:
    found = await machine.port(AxonSettings(ip="192.0.2.1", port=free_port()))
    assert found.level is Level.FAILED
    assert "--axon.ip" in found.fix


async def test_a_port_that_changes_at_every_start_is_warned_of() -> None:
    assert (await machine.port(axon(0))).level is Level.WARNING


async def test_the_published_address_leads_here() -> None:
    number = free_port()
    found = await machine.outside(axon(number, external_ip="127.0.0.1"))
    assert (found.level, found.words) == (Level.OK, f"127.0.0.1:{number} leads to this machine")


async def test_a_published_address_that_is_not_reached_is_not_called_wrong() -> None:
    """A router that does not lead its own address back in looks the same from here as one that drops everything."""
    found = await machine.outside(axon(free_port(), external_ip="127.0.0.1", external_port=free_port()))
    assert found.level is Level.UNKNOWN
    assert found.fix.startswith("from another machine: curl")
    assert is_healthy([found])


async def test_a_proxy_that_takes_any_connection_is_not_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first doctor called every address its own where a firewall answered for all of them."""
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 0.3)
    with taken() as proxy:
        found = await machine.outside(axon(free_port(), external_ip="127.0.0.1", external_port=proxy))
    assert found.level is Level.UNKNOWN


async def test_a_miner_that_serves_answers_for_the_published_address() -> None:
    async with answering({"accepting_jobs": True}) as number:
        found = await machine.outside(axon(number, external_ip="127.0.0.1"))
    assert found.level is Level.OK


def test_the_ledgers_file(tmp_path: Path) -> None:
    settings = LedgerSettings(path=tmp_path / "ledger.sqlite3")
    assert "first start" in machine.ledger(settings).words
    settings.file.write_text("not a database, and longer than the header of one would have to be" * 20)
    damaged = machine.ledger(settings)
    settings.file.unlink()
    with closing(sqlite3.connect(settings.file)) as other:
        other.execute("CREATE TABLE jobs (id TEXT)")
        other.commit()
    foreign = machine.ledger(settings)
    assert (damaged.level, foreign.level) == (Level.FAILED, Level.FAILED)
    assert "is no ledger of qcompute" in foreign.words
    assert "import-reference" in foreign.fix


async def test_a_ledger_in_use_and_one_without_its_key(tmp_path: Path) -> None:
    settings = LedgerSettings(path=tmp_path / "ledger.sqlite3")
    ledger = open_ledger(settings)
    assert machine.ledger(settings).level is Level.OK
    await ledger.close()
    settings.key.unlink()
    assert "key" in machine.ledger(settings).words


async def test_without_a_published_address_nobody_comes() -> None:
    found = await machine.outside(AxonSettings(port=free_port()))
    assert found.level is Level.FAILED
    assert "--axon.external_ip" in found.fix


def on_postgres(tmp_path: Path, url: str) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "ledger.sqlite3", url=SecretStr(url))


async def test_a_ledger_on_postgres_is_opened(tmp_path: Path) -> None:
    """It was taken on trust: the doctor called a miner well whose database was gone."""
    server = shared_server()
    with empty_database() as name:
        settings = on_postgres(tmp_path, server.url(name))
        empty = machine.ledger(settings)
        assert (empty.level, "first start" in empty.words) == (Level.OK, True)
        await open_ledger(settings).close()
        assert (machine.ledger(settings).level, REVISIONS[-1] in machine.ledger(settings).words) == (Level.OK, True)
        settings.key.unlink()
        assert str(settings.key) in machine.ledger(settings).words
        server.run_sql(name, "DROP TABLE meta CASCADE")
        assert "is no ledger of qcompute" in machine.ledger(settings).words
    gone = machine.ledger(on_postgres(tmp_path, f"postgresql://qcompute:hidden@127.0.0.1:{free_port()}/miner"))
    assert (gone.level, "ledger.url" in gone.fix, "hidden" in f"{gone}") == (Level.FAILED, True, False)
