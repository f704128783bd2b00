"""What the command line shows, and its exit codes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompute import __version__
from qcompute.errors import ConfigError
from qcompute.miner.settings import Settings
from qcompute.miner.settings_cli import EXIT_CONFIG, EXIT_OK, command_line
from qcompute.miner.settings_load import catalogue


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, no settings in the environment, and the log as it was before."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("QCOMPUTE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JOB_SERVER_URL", "https://jobs.example")
    monkeypatch.setenv("TENSORAUTH_URL", "https://auth.example")
    root = logging.getLogger()
    before = root.handlers[:], root.level, {n: logging.getLogger(n).level for n in ("qcompute", "neurons")}
    yield
    root.handlers[:], root.level = before[0], before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)


def never(settings: Settings) -> int:
    raise AssertionError(f"the daemon must not start: {settings!r}")


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--help", "--no-such-flag"], never) == EXIT_OK
    shown = capsys.readouterr().out
    for setting in catalogue().settings:
        assert setting.flag in shown


def test_every_setting_is_documented() -> None:
    undocumented = [s.name for s in catalogue().settings if not s.documentation]
    assert undocumented == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--version"], never) == EXIT_OK
    assert capsys.readouterr().out == f"qcompute {__version__}\n"


def test_check_config_shows_values_with_their_sources_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--check-config",
        "--providers.ibm.api_key",
        "s3cret",
        "--providers.ibm.instance",
        "crn",
        "--subtensor.chain_endpoint",
        "wss://user:pass@node.example/?sig=abc",
        "--wandb.off",
    ]
    assert command_line(arguments, never) == EXIT_OK
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["netuid"] == ["48", "default"]
    assert rows["jobserver.url"] == ['"https://jobs.example"', "environment", "JOB_SERVER_URL"]
    endpoint = ['"wss://***@node.example/?***"', "flag", "--subtensor.chain_endpoint"]
    assert rows["subtensor.chain_endpoint"] == endpoint
    assert rows["providers.ibm.api_key"] == ["***", "flag", "--providers.ibm.api_key"]
    assert rows["providers.ibm.instance"] == ['"crn"', "flag", "--providers.ibm.instance"]
    assert rows["wallet.hotkey"] == ['"default"', "default"]
    assert "--wandb.off" in rows["warning:"]
    assert {s.name for s in catalogue().settings} - {"providers"} <= set(rows)


def test_check_config_with_problems_shows_all_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--check-config", "--netuid", "x", "--nope"], never) == EXIT_CONFIG
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert all(line.startswith("qcompute: ") for line in said.err.splitlines())


def test_the_daemon_gets_the_settings_and_its_exit_code_is_returned(capsys: pytest.CaptureFixture[str]) -> None:
    def start(settings: Settings) -> int:
        assert settings.netuid == 7
        return 5

    assert command_line(["--netuid", "7", "--wandb.off"], start) == 5
    assert "do nothing here: --wandb.off" in capsys.readouterr().err


def test_a_setting_the_daemon_refuses_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def start(_: Settings) -> int:
        raise ConfigError("the hotkey file is missing")

    assert command_line([], start) == EXIT_CONFIG
    assert capsys.readouterr().err == "qcompute: the hotkey file is missing\n"


def test_foreign_names_of_dotenv_reach_the_environment_but_never_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("FOREIGN_A=file\nFOREIGN_B=file\n")
    monkeypatch.setenv("FOREIGN_A", "real")
    monkeypatch.delenv("FOREIGN_B", raising=False)
    seen: list[str | None] = []

    def start(_: Settings) -> int:
        seen.extend((os.environ.get("FOREIGN_A"), os.environ.get("FOREIGN_B")))
        return 0

    assert command_line([], start) == 0
    assert seen == ["real", "file"]
    monkeypatch.delenv("FOREIGN_B")
