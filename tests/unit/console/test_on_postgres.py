"""Commands that read a ledger on Postgres: what they may do there, what it costs, and what is told when it fails."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from qcompute.console.__main__ import main
from qcompute.console.rows import Filter, Rows
from qcompute.errors import StoreError
from qcompute.ledger import open_ledger, postgres_connect
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.miner.settings import Settings
from qcompute.testing.ledger_records import accepted, brought_to
from tests.ledger.database_side import run_sql
from tests.ledger.old_ledgers import BACK_TO_FIRST, EARLIER, lay_down
from tests.ledger.postgres_server import (
    PASSWORD,
    USER,
    empty_database,
    free_port,
    ledger_database,
    own_ledger_database,
    shared_server,
)
from tests.unit.console.ledgers import fill_ledger

MANY = 8_000
LONG_ERROR = 8_000
"""Characters: so all rows together are 64 MB."""

MORE_ROWS = (
    "INSERT INTO jobs (execution_id, validator_hotkey, shots, configuration_data, received_at, deadline_at, due_at, "
    "state, version, attempts, submit_attempts, error_code, error) SELECT 'job-' || lpad(one::text, 6, '0'), 'v', 1, "
    "'{}', one, one, one, 'accepted', 0, 0, 0, 'x', repeat('x', %d) FROM generate_series(1, %d) AS one"
)

REPORTING = """
import sys
from qcompute.console.__main__ import main
code = main()
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak, file=sys.stderr)
sys.exit(code)
"""
"""``qcompute`` as it is called, which says in the end how many KiB it took at most."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator's home, ``.env`` or ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def database() -> Iterator[str]:
    with ledger_database() as name:
        yield name


def processed(*arguments: str) -> tuple[list[str], int]:
    """What a real process wrote, line by line, and the most memory it took, in KiB."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", REPORTING, *arguments], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), int(done.stderr)


@pytest.fixture
def reader(database: str) -> Iterator[str]:
    """The URL of a role that may read the tables, and nothing else."""
    server = shared_server()
    role = f"reader_{secrets.token_hex(4)}"
    server.run_sql(
        database, f"CREATE ROLE {role} LOGIN PASSWORD 'read'", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    yield f"postgresql://{role}:read@127.0.0.1:{server.port}/{database}"
    server.run_sql(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_long_ledger_is_written_out_in_little_memory_by_a_role_that_may_only_read(
    database: str, reader: str, tmp_path: Path
) -> None:
    shared_server().run_sql(database, MORE_ROWS % (LONG_ERROR, MANY))
    lines, little = processed("jobs", "list", "--limit", "2", "--json", "--ledger.url", reader)
    document = json.loads("".join(lines))
    assert [job["execution_id"] for job in document["jobs"]] == ["job-008000", "job-007999"]
    assert document["total"] == MANY
    out = tmp_path / "out"
    lines, most = processed("jobs", "export", "--to", str(out), "--ledger.url", reader)
    assert lines == [f"{MANY} jobs are in {out}"]
    with out.open(encoding="utf-8") as file:
        ids = [json.loads(line)["execution_id"] for line in file]
    assert ids == [f"job-{number:06}" for number in range(1, MANY + 1)]
    assert most - little < 20_000, "KiB, a third of what the rows are"


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerSettings:
    path = tmp_path / "l"
    if request.param == "sqlite":
        return LedgerSettings(path=path)
    database: str = request.getfixturevalue("database")
    return LedgerSettings(path=path, url=SecretStr(shared_server().url(database)))


async def test_what_is_read_is_of_one_moment_and_holds_up_no_daemon(settings: LedgerSettings) -> None:
    ledger = open_ledger(settings)
    try:
        first = await accepted(ledger, "a")
        await accepted(ledger, "b")
        rows = Rows(Settings.model_construct(ledger=settings))
        with rows.each(Filter()) as found:
            assert next(found).execution_id == "a"
            await ledger.save(first, replace(first, state=State.READY))
            await accepted(ledger, "c")
            with rows.each(Filter()) as again:
                assert [(job.execution_id, job.state) for job in again] == [
                    ("a", State.READY),
                    ("b", State.ACCEPTED),
                    ("c", State.ACCEPTED),
                ]
            assert [job.execution_id for job in found] == ["b"]
    finally:
        await ledger.close()


@pytest.mark.parametrize("end", ["still", "cut off"])
def test_an_export_that_is_cut_off_says_so(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    """Whoever reads the output in a pager would have the server keep every version of every row meanwhile."""
    server = shared_server()
    server.run_sql(database, MORE_ROWS % (10, 2_000))
    if end == "still":
        monkeypatch.setattr(postgres_connect, "STILL_READER_SECONDS", 0.1)
    ledger = LedgerSettings(path=tmp_path / "l", url=SecretStr(server.url(database)))
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    def reads() -> None:
        with Rows(Settings.model_construct(ledger=ledger)).each(Filter()) as found:
            assert next(found).execution_id == "job-000001"
            if end == "cut off":
                server.run_sql(database, f"SELECT pg_terminate_backend(pid, 5000) {others}")
            deadline = time.monotonic() + 20
            while server.run_sql(database, f"SELECT 1 {others} AND application_name LIKE 'qcompute%'"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            list(found)

    with pytest.raises(StoreError) as told:
        reads()
    assert ("file with --to" in told.value.message) is (end == "still")
    assert ("(setting ledger.url)" in told.value.message) is (end == "cut off")


def _newer(name: str) -> str:
    shared_server().run_sql(name, "UPDATE alembic_version SET version_num = 'r9999'")
    return shared_server().url(name)


def _with_other_password(name: str) -> str:
    return f"postgresql://{USER}:hidden@127.0.0.1:{shared_server().port}/{name}"


REFUSED: dict[str, tuple[Callable[[str], str], int, str]] = {
    "no URL": (lambda _: "mysql://u:hidden@127.0.0.1/d", 2, "ledger.url must begin with postgresql://"),
    "a password that breaks the URL": (lambda _: "postgresql://u:hid@den@127.0.0.1/d", 2, "ledger.url cannot be read"),
    "no server": (lambda name: f"postgresql://u:hidden@127.0.0.1:{free_port()}/{name}", 1, "cannot be reached"),
    "another password": (_with_other_password, 1, "refuses user or password"),
    "no password": (lambda name: shared_server().url_without_password(name), 1, "give it with ledger.password_secret"),
    "no database": (lambda _: shared_server().url("missing"), 1, "has no such database; create it"),
    "a newer schema": (_newer, 2, f"(schema r9999, this one knows up to {REVISIONS[-1]}); use that version"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_database_that_will_not_do_is_told_in_one_line_that_names_the_setting(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url_of, code, words = REFUSED[case]
    with own_ledger_database() as name:
        url = url_of(name)
        for line in ("jobs list", "receipts export", "budget", f"jobs export --to {tmp_path / 'out'}"):
            assert main([*line.split(), "--ledger.url", url, "--neuron.full_path", str(tmp_path)]) == code, line
            said = capsys.readouterr()
            assert (said.out, said.err.count("\n")) == ("", 1)
            assert words in said.err
            assert "ledger.url" in said.err
            assert "hid" not in said.err
            assert quote(PASSWORD, safe="") not in said.err
    assert not (tmp_path / "out").exists(), "no file is made for what cannot be read"


def test_a_database_without_a_ledger_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    server = shared_server()
    with empty_database() as name:
        assert main(["jobs", "cancel", "a", "--ledger.url", server.url(name)]) == 2
        assert f"database {name} on 127.0.0.1 (setting ledger.url) is empty: the first start" in capsys.readouterr().err
        assert server.run_sql(name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


READING = ("jobs list", "jobs show {}", "jobs tail --for 0", "jobs export", "receipts export", "budget")


@pytest.mark.parametrize("where", [*EARLIER, "postgres"])
def test_a_ledger_of_an_earlier_version_is_read_and_not_upgraded(
    where: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Where no daemon has opened it since, `jobs show` and `budget` failed for what it has no place for."""
    flags = ["--neuron.full_path", str(tmp_path), "--ledger.path", str(tmp_path / "l")]
    with own_ledger_database() if where == "postgres" else nullcontext("") as name:
        if where == "postgres":
            settings = LedgerSettings(path=tmp_path / "l", url=SecretStr(shared_server().url(name)))
            fill_ledger(settings, lambda ledger: brought_to(ledger, "a", State.WAITING))
            shared_server().run_sql(name, *BACK_TO_FIRST)
            flags += ["--ledger.url", shared_server().url(name)]
        else:
            lay_down(where, tmp_path / "l")
        assert main(["jobs", "list", "--json", *flags]) == 0
        some_id = json.loads(capsys.readouterr().out)["jobs"][0]["execution_id"]
        for line in READING:
            assert main([*line.format(some_id).split(), *flags]) == 0, line
        if where == "postgres":
            assert shared_server().run_sql(name, "SELECT version_num FROM alembic_version") == [("r0001",)]
        else:
            revision = run_sql(LedgerSettings(path=tmp_path / "l"), "SELECT version_num FROM alembic_version")
            assert revision == [(where,)]


def test_a_decision_about_a_job_that_is_not_there_asks_for_no_wallet(
    database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["--ledger.url", shared_server().url(database), "--neuron.full_path", str(tmp_path)]
    assert main(["jobs", "cancel", "nope", *flags]) == 1
    assert f"there is no job nope in database {database} on 127.0.0.1" in capsys.readouterr().err


def test_without_the_driver_the_way_to_install_it_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "qcompute.ledger.postgres_looking", raising=False)
    monkeypatch.delitem(sys.modules, "qcompute.ledger.postgres_connect", raising=False)
    assert main(["jobs", "list", "--ledger.url", "postgresql://u@127.0.0.1/d"]) == 2
    assert "pip install 'qcompute[postgres]'" in capsys.readouterr().err
