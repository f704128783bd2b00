"""``qcompute init`` and ``qcompute doctor``: the first two commands of a new operator."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qcompute.console.__main__ import main
from tests.unit.console.doctor.servers import wallet

SERVERS = {"JOB_SERVER_URL": "http://127.0.0.1:9", "TENSORAUTH_URL": "http://127.0.0.1:9"}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator's home, ``.env`` or ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in SERVERS:
        monkeypatch.delenv(name, raising=False)


def written(file: str = "miner.toml") -> dict[str, Any]:
    return tomllib.loads(Path(file).read_text(encoding="utf-8"))


def test_a_file_from_flags_variables_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    assert (
        main(["init", "--yes", "--no-look", "--axon.port", "9001", "--provider", "mock", "--budget.per_day", "5"]) == 0
    )
    document = written()
    assert document["axon"] == {"port": 9001}
    assert document["provider"] == "mock"
    assert document["jobserver"] == {"url": "http://127.0.0.1:9", "tensorauth_url": "http://127.0.0.1:9"}
    assert document["subtensor"] == {"network": "finney"}
    assert Path("miner.toml").stat().st_mode & 0o777 == 0o600
    assert main(["config", "check", "--config", "miner.toml"]) == 0


def test_what_has_no_default_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--yes"]) == 2
    assert "jobserver.url must be given: --jobserver.url VALUE, or JOB_SERVER_URL" in capsys.readouterr().err
    assert not Path("miner.toml").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--axon.port", "70000"], "axon.port: Input should be less than or equal to 65535"),
        (["--axon.prot", "8091"], "did you mean --axon.port?"),
        (["--provider", "no one"], "provider: String should match pattern"),
        (["--subtensor.network", "fin"], "subtensor.network: 'fin' is no network: write finney, test, "),
    ],
)
def test_a_value_that_will_not_do_is_refused(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    assert main(["init", "--yes", *flags]) == 2
    assert words in capsys.readouterr().err
    assert not Path("miner.toml").exists()


def test_a_file_that_is_there_is_replaced_only_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    Path("miner.toml").write_text("netuid = 7\n")
    assert main(["init", "--yes", "--no-look"]) == 2
    assert "--force" in capsys.readouterr().err
    assert written() == {"netuid": 7}
    assert main(["init", "--yes", "--no-look", "--force"]) == 0
    assert written()["netuid"] == 48


def test_a_vendor_s_connection_is_the_next_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    assert main(["init", "our miner.toml", "--json", "--no-look", "--provider", "ionq"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == "our miner.toml"
    assert any(step.startswith("qcompute connections add my-ionq ionq ") for step in told["next"])
    # Pasted it was two words, of which the second was refused.
    assert all(step.endswith(" --config 'our miner.toml'") for step in told["next"])
    assert "secret" not in json.dumps(told["settings"])


def test_a_terminal_is_asked_and_a_wrong_answer_asked_again(tmp_path: Path) -> None:
    """Typed at a real terminal: what is wrong is asked for once more, everything else is answered with Enter.

    An address of the job server without https:// was written down once and refused by the daemon, a misspelt provider
    ended the command after the last question with nothing written, and a name for the public address was told at the
    first publication on the chain.
    """
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "qcompute.console", "init", "--no-look"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **SERVERS}
    places = ["the.router.example", "203.0.113.7", "jobs.example", "https://jobs.example", ""]
    answers = ["", "", "", "", "", "port", "9001", *places, "mokc", "mock", ""]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as asked:  # noqa: S603 - ours
        os.close(theirs)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        said = b""
        while True:
            try:
                said += (piece := os.read(ours, 4096))
            except OSError:  # the other end is closed
                break
            if not piece:
                break
        assert asked.wait(60) == 0, said.decode()
    os.close(ours)
    for words in (
        "axon.port: Input should be a valid integer",
        "axon.external_ip: Input should be an IP address such as 203.0.113.7",
        "jobserver.url: must be an https:// URL",
        "'mokc' is not a provider. Known: aer,",
    ):
        assert words in said.decode()
    document = written()
    assert document["axon"] == {"external_ip": "203.0.113.7", "port": 9001}
    assert (document["provider"], document["netuid"]) == ("mock", 48)


def test_nothing_is_asked_for_a_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Eleven answers were asked for, and then the file was there already. This look comes before the first one."""
    Path("there.toml").write_text("netuid = 7\n")
    Path("folder").mkdir()
    for file, words in (("there.toml", "--force"), ("folder", "folder is a folder"), ("there.toml/a", "cannot be")):
        assert main(["init", file]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert "must be given" not in said


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ({"JOB_SERVER_URL": "jobs.example"}, "jobserver.url: must be an https:// URL (from environment"),
        ({"TENSORAUTH_URL": "http://auth.example"}, "tensorauth_url must be https:// (or list auth.example in"),
        ({"JOB_SERVER_URL": "https://me:hush@jobs.example"}, "without a user name"),
        ({"METRICS_API_URL": "telemetry"}, "jobserver.metrics_api_url: must be an https:// URL"),
    ],
)
def test_an_address_the_daemon_would_refuse_is_no_sound_setting(
    servers: dict[str, str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config check` and `--check-config` called settings sound with which the daemon did not start."""
    for name, value in (SERVERS | servers).items():
        monkeypatch.setenv(name, value)
    assert main(["config", "check"]) == 1
    said = capsys.readouterr().out
    assert words in said
    assert "hush" not in said


def test_the_doctor_tells_every_wrong_setting_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--axon.prot", "1"]) == 1
    told = json.loads(capsys.readouterr().out)
    lines = [one["words"] for one in told["findings"] if one["level"] == "failed"]
    assert not told["is_healthy"]
    assert len(lines) == 3, lines
    assert any("axon.prot" in line for line in lines)


def test_the_doctor_s_page_has_a_fix_below_each_line_that_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    ours = wallet(tmp_path)
    (tmp_path / "metagraph.json").write_text(
        json.dumps({"netuid": 48, "block": 1, "neurons": [{"hotkey": ours.hotkey, "uid": 5}]})
    )
    flags = ["--wallet.path", "wallets", "--wallet.name", "miner", "--chain.metagraph_file", "metagraph.json"]
    flags += ["--provider", "mock", "--axon.ip", "127.0.0.1", "--axon.port", "9"]
    assert main(["doctor", *flags]) == 1
    page = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok") and "uid 5" in line for line in page)
    failing = [number for number, line in enumerate(page) if line.startswith("failed")]
    assert failing
    assert all(page[number + 1].lstrip().startswith("->") for number in failing)
    assert page[-1] == f"{len(failing)} of {sum(not line.startswith(' ') for line in page) - 1} failed"
