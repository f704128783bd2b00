"""The command line of ``qcompute``: what is understood, and how what is not is told."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qcompute.console.__main__ import main
from qcompute.console.app import GROUPS
from qcompute.console.arguments import UNDOTTED, Invocation, settings_from, split
from qcompute.console.exit_codes import ExitCode
from qcompute.errors import ConfigError
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import SPLIT_LANE, State
from qcompute.miner.settings_flags import CONFIG_FLAG
from qcompute.miner.settings_load import catalogue
from qcompute.testing.ledger_records import brought_to
from qcompute.units import ExecutionId, ProviderKey
from tests.docs.console_page import commands
from tests.unit.console.ledgers import filled, with_held


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator's home, ``.env`` or ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "ours", "settings"),
    [
        ("ledger check --neuron.name x", "ledger check", "--neuron.name x"),
        ("--neuron.name x ledger check", "ledger check", "--neuron.name x"),
        ("ledger backup --ledger.path=a b --force", "ledger backup b --force", "--ledger.path=a"),
        ("ledger check --config c.toml f", "ledger check f", "--config c.toml"),
        ("jobs list --provider mock --state held", "jobs list --state held", "--provider mock"),
        ("ledger check --ledger.forget_unreadable_urls f", "ledger check f", "--ledger.forget_unreadable_urls"),
        (
            "ledger check --ledger.forget_unreadable_urls true f",
            "ledger check f",
            "--ledger.forget_unreadable_urls true",
        ),
        ("ledger check --no.such thing f", "ledger check f", "--no.such thing"),
        ("ledger check --ledger.path", "ledger check", "--ledger.path"),
    ],
)
def test_the_daemon_s_settings_are_told_from_the_command_s_own_arguments(line: str, ours: str, settings: str) -> None:
    assert split(line.split()) == (ours.split(), settings.split())


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_has_help_json_and_its_exit_codes(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == ExitCode.DONE
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"Usage: qcompute {' '.join(path)} ")
    assert "--json" in said
    assert "Exit codes: 0 done" in said


def test_help_lists_every_group_without_importing_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in GROUPS)
    assert "--install-completion" in said
    assert "--show-completion" in said


HELP_SECONDS = """
import resource, subprocess, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
def best(*command):
    seconds = []
    for _ in range(5):
        before = spent()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        seconds.append(spent() - before)
    return min(seconds)
print(best("-m", "qcompute.console", "--help") / best("-c", "import typer"))
"""


def test_help_is_answered_in_less_than_twice_the_time_typer_needs_to_be_imported() -> None:
    """The settings take ten times as long to import as typer does; help and completion must not wait for them.

    Seconds of CPU: by the clock the ratio was 2.2 on a machine that was busy with other tests, and 1.1 on its own.
    """
    command = [sys.executable, "-c", HELP_SECONDS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603 - our own words
    assert float(done.stdout) < 2


def test_the_flags_of_settings_without_a_dot_are_known() -> None:
    flags = {setting.flag for setting in catalogue().settings if "." not in setting.flag}
    assert flags | {CONFIG_FLAG} == UNDOTTED


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "Missing command"),
        ("ledger", "Missing command"),
        ("legder check", "No such command 'legder'. Did you mean 'ledger'?"),
        ("ledger backup", "'FILE'"),
        ("ledger burn", "No such command 'burn'"),
        ("jobs fail ID", "--reason"),
        ("jobs list --state lost", "'lost' is not one of 'accepted'"),
        ("jobs list --limit 0", "--limit"),
        ("jobs show", "'ID'"),
        ("jbos", "No such command 'jbos'. Did you mean 'jobs'? See qcompute --help"),
        ("ledger check a b", "(b)"),
        ("jobs list --sta held", "--sta"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert "--help" in said
    assert said.count("qcompute: ") == 1
    assert "Value error" not in said
    assert re.search(r"[.?] See qcompute\b", said)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("ledger check", 2, "there is no ledger"),
        ("ledger check nothing.sqlite3", 2, "there is no ledger nothing.sqlite3"),
        ("ledger backup copy", 2, "there is no ledger"),
        ("ledger restore copy", 2, "there is no ledger copy"),
        ("ledger import-reference theirs.db", 2, "there is no file theirs.db"),
        ("ledger import-reference theirs.db --as-provider nobody", 2, "no such adapter; there are"),
        ("jobs list", 2, "there is no ledger"),
        ("jobs list --since lately", 2, "--since lately: write 90s"),
        ("jobs show a", 2, "there is no ledger"),
        ("jobs tail", 2, "there is no ledger"),
        ("jobs export", 2, "there is no ledger"),
        ("jobs release a", 2, "there is no ledger"),
        ("jobs cancel a", 2, "there is no ledger"),
        ("jobs retry-delivery a", 2, "there is no ledger"),
        ("jobs adopt a b", 2, "there is no ledger"),
        ("jobs fail a --reason=", 2, "the reason, is empty"),
        ("receipts export", 2, "there is no ledger"),
        ("receipts verify nothing.json", 2, "nothing.json cannot be read (No such file or directory)"),
        ("ledger check --ledger.pth x", 2, "did you mean --ledger.path?"),
        ("ledger check --config none.toml", 2, "settings file none.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line_an_exit_code_and_a_json_document(
    line: str, code: int, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(line.split()) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("qcompute: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert main([*line.split(), "--json"]) == code
    said = capsys.readouterr()
    assert words in json.loads(said.out)["error"]["message"]
    assert said.err.count("\n") == 1
    assert not list(tmp_path.rglob("ledger.sqlite3"))


def test_a_wrong_id_is_told_before_the_wallet_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``jobs release nope`` asked for a wallet first, and told an operator with a typing error to make one."""
    with_held(tmp_path / "l")
    assert main(["jobs", "release", "nope", "--ledger.path", str(tmp_path / "l")]) == ExitCode.FAILED
    said = capsys.readouterr().err
    assert "there is no job nope" in said
    assert "wallet" not in said


def test_a_restore_names_the_accounts_that_the_settings_do_not_have_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Jobs may have gone there since the copy: they were submitted again, and nobody was told."""

    async def fill(ledger: Ledger) -> None:
        job = await brought_to(ledger, "held", State.HELD)
        job = await ledger.save(job, replace(job, provider=ProviderKey("mock")))
        # It waits for its parts, at no account: "@split" was named as one to put back.
        whole = await brought_to(ledger, "split", State.READY)
        part = replace(whole, execution_id=ExecutionId("split/0"), parent_id=whole.execution_id, version=0)
        part = replace(part, state=State.SUBMITTING, provider=ProviderKey("mock"), input_data_url=None)
        await ledger.split(whole, replace(whole, state=State.WAITING, provider=ProviderKey(SPLIT_LANE)), [part])
        await ledger.save(part, replace(part, state=State.HELD))

    filled(tmp_path / "l", fill)
    where, copy = ["--ledger.path", str(tmp_path / "l")], str(tmp_path / "copy")
    assert main(["ledger", "backup", copy, *where, "--json"]) == ExitCode.DONE
    capsys.readouterr()
    for provider, gone in (("aer", ["mock"]), ("mock", [])):
        assert main(["ledger", "restore", copy, *where, "--provider", provider, "--json"]) == ExitCode.DONE
        assert json.loads(capsys.readouterr().out)["accounts_not_here"] == gone
        assert main(["ledger", "restore", copy, *where, "--provider", provider]) == ExitCode.DONE
        assert ("mock, where the copy has jobs" in capsys.readouterr().out) is bool(gone)


def test_the_shell_completes_commands_and_the_ids_of_held_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "l"
    with_held(path, "held-1", "held-2", "other")
    line = f"qcompute jobs release --ledger.path {path} he"
    assert completed(f"{line}", monkeypatch, capsys) == ["held-1", "held-2"]
    assert completed("qcompute le", monkeypatch, capsys) == ["ledger"]
    assert completed("qcompute jobs retry", monkeypatch, capsys) == ["retry-delivery"]
    assert completed("qcompute jobs release --ledger.path /nowhere/l he", monkeypatch, capsys) == []


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("_QCOMPUTE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    return capsys.readouterr().out.split()


def pasted(*flags: str) -> tuple[list[str], str | None]:
    """The flags that a shell gives to a pasted command, and what is said to be left out."""
    invocation = Invocation(flags, {}, Path("/nowhere"))
    return shlex.split(invocation.again("qcompute jobs show a"))[4:], invocation.left_out()


@pytest.mark.parametrize(
    "flags",
    [
        ["--neuron.full_path", "/my miners/1", "--x.y=1", "--miner.dry_run", "--blacklist.min_stake", "-1"],
        [
            "--ledger.url",
            "postgresql://miner@db.example:5432/d?sslmode=verify-full&sslkey=/k&application_name=my%20app",
        ],
        ["--ledger.url=postgres:///d?host=/run/postgresql", "--ledger.password_secret", "ledger"],
        ["--ledger.url=postgresql://miner@one,two:5433/d?target_session_attrs=read-write", "--ledger.key_file", "/K 1"],
        ["--jobserver.url", "https://jobs.example/v1", "--ledger.url="],
        ["--cluster.nodes", '[{provider = "custom_rest", endpoints = ["https://lab.example"], api_key = "lab"}]'],
    ],
)
def test_a_pasted_command_has_the_flags_it_was_called_with(flags: list[str]) -> None:
    """Of a database's URL without a password the user became *** and so did ``sslmode``, and it led nowhere."""
    assert pasted(*flags) == (flags, None)


@pytest.mark.parametrize(
    ("flag", "value", "kept"),
    [
        ("ledger.url", "postgresql://u:hidden@db/d?sslmode=require", "postgresql://u@db/d?sslmode=require"),
        ("ledger.url", "postgresql://u:hid?de#n@db/d", "postgresql://u@db/d"),
        ("ledger.url", "postgres://u@db/d?password=hidden&sslmode=require", "postgres://u@db/d?sslmode=require"),
        ("ledger.url", "postgresql://u@db/d?pass%77ord=hidden&sslpassword=hidden", "postgresql://u@db/d"),
        ("ledger.url", "POSTGRESQL://:hidden@db/d", "POSTGRESQL://db/d"),
        ("ledger.url", "postgresql://u:hid/den@db/d", None),
        ("ledger.url", "postgresql://u:hid@den@db/d", None),
        ("tracing.endpoint", "https://hidden@traces.example/v1", "https://traces.example/v1"),
        ("tracing.endpoint", "https://u:p@traces.example/v1?key=hidden#hidden", "https://traces.example/v1"),
        ("tracing.endpoint", "https://u:hid/den@traces.example/v1", None),
        ("providers.x.urls", '["https://u:hidden@lab.example"]', None),
        ("providers.x.token", "hidden-Value", None),
        ("ledger.password_secret", "hidden word", None),
    ],
)
def test_a_pasted_command_shows_no_password_and_says_so(flag: str, value: str, kept: str | None) -> None:
    """A flag of which nothing may be shown has no value: that is refused, and no other miner is looked at."""
    for given in ([f"--{flag}", value], [f"--{flag}={value}"]):
        flags, left_out = pasted(*given, "--x.y", "1")
        assert "".join(flags) in {f"--{flag}{sign}{kept or ''}--x.y1" for sign in ("", "=" if kept else "")}
        assert left_out is not None
        assert f"the secret in --{flag}" in left_out
        assert "hid" not in f"{flags}{left_out}".replace("--", "")
    assert (pasted("--ledger.url", "postgresql://u:hidden@db/d")[1] or "").endswith("PGPASSWORD or ~/.pgpass")


def test_no_command_needs_the_servers_the_daemon_speaks_to() -> None:
    settings = settings_from(["--neuron.name", "x"], {}, Path("/nowhere"))
    assert settings.ledger.file == Path.home() / ".qcompute" / "x" / "ledger.sqlite3"


def test_the_variables_of_the_daemon_say_which_ledger(tmp_path: Path) -> None:
    environ = {"QCOMPUTE_LEDGER__PATH": str(tmp_path / "l"), "JOB_SERVER_URL": "https://real.example"}
    settings = settings_from([], environ, tmp_path)
    assert settings.ledger.file == tmp_path / "l"
    assert settings.jobserver.url == "https://real.example"


def test_wrong_settings_are_told_in_one_line() -> None:
    with pytest.raises(ConfigError) as raised:
        settings_from(["--axon.port", "many", "--axon.prt", "1"], {}, Path("/nowhere"))
    assert "axon.port" in raised.value.message
    assert "--axon.prt" in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "line",
    [
        "ledger backup copy",
        "ledger check",
        "ledger restore copy",
        "ledger import-reference theirs.db",
    ],
)
def test_what_works_on_files_only_refuses_a_ledger_on_postgres_without_showing_its_password(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://u:hidden@127.0.0.1:1/d"
    assert main([*line.split(), "--ledger.url", url]) == 2
    said = capsys.readouterr().err
    assert "SQLite files only" in said
    assert "ledger.url" in said
    assert "hidden" not in said
