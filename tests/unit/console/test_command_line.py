"""The command line of ``qcompute``: what is understood, and how what is not is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompute.console import arguments
from qcompute.console.__main__ import main
from qcompute.console.arguments import parser, settings_from, split
from qcompute.errors import ConfigError

COMMANDS = (
    "ledger backup FILE",
    "ledger check",
    "ledger restore FILE",
    "ledger import-reference FILE",
    "jobs list",
    "jobs show ID",
    "jobs release ID",
    "jobs fail ID --reason r",
    "jobs adopt ID VENDORS",
)


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


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood_and_has_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    wish = parser().parse_args(line.split())
    assert f"{wish.group} {wish.command}" == " ".join(line.split()[:2])
    with pytest.raises(SystemExit) as ended:
        main([*line.split()[:2], "--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "COMMAND"),
        ("ledger", "COMMAND"),
        ("ledger backup", "FILE"),
        ("ledger burn", "invalid choice: 'burn'"),
        ("jobs fail ID", "--reason"),
        ("jobs list --state lost", "invalid choice: 'lost' (choose from 'accepted'"),
        ("jobs list --limit 0", "--limit"),
        ("jobs show", "ID"),
        ("ledger check a b", "b"),
        ("jobs list --sta held", "--sta held"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == arguments.EXIT_USAGE
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert "--help" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ledger check", "there is no ledger"),
        ("ledger check nothing.sqlite3", "there is no ledger nothing.sqlite3"),
        ("ledger backup copy", "there is no ledger"),
        ("ledger restore copy", "there is no ledger copy"),
        ("ledger import-reference theirs.db", "there is no file theirs.db"),
        ("ledger import-reference theirs.db --as-provider nobody", "no such adapter; there are"),
        ("jobs list", "there is no ledger"),
        ("jobs show a", "there is no ledger"),
        ("jobs release a", "there is no ledger"),
        ("jobs adopt a b", "there is no ledger"),
        ("ledger check --ledger.pth x", "did you mean --ledger.path?"),
        ("ledger check --config none.toml", "settings file none.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    line: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(line.split()) == arguments.EXIT_USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("qcompute: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.rglob("ledger.sqlite3"))


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
    "line", ["ledger backup copy", "ledger check", "ledger restore copy", "jobs list", "jobs show a"]
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
