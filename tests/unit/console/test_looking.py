"""What only looks: providers, settings, logs."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
import time
from pathlib import Path

import pytest

from qcompute.cluster.builtin import local
from qcompute.console.__main__ import main
from qcompute.console.doctor.accounts import accounts
from qcompute.console.doctor.findings import Level
from qcompute.console.output import duration_text
from qcompute.miner.settings_load import load_from
from qcompute.vendor import aer_gpu

SERVERS = ("--jobserver.url", "https://jobs.example", "--jobserver.tensorauth_url", "https://auth.example")

LOG = """\
2026-11-21 03:48:11.123 INFO     qcompute.miner.road accepted -> ready [action=move execution_id=abc]
{"time": "2026-11-21T03:48:12.000Z", "level": "error", "message": "held", "action": "move", "execution_id": "abc~00"}
2026-11-21 03:48:13.123 WARNING  qcompute.miner.budget nearly spent [action=budget_alert]
Traceback (most recent call last):
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator's home, ``.env`` or ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().out


def test_every_provider_is_usable_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ran(capsys, "providers", "--provider", "mock", "--json")
    found = {one["key"]: one for one in json.loads(out)["providers"]}
    assert code == 0
    assert (found["mock"]["is_chosen"], found["mock"]["is_usable"]) == (True, True)
    assert "QCOMPUTE_SECRET_IONQ" in found["ionq"]["problem"]
    assert [key for key, one in found.items() if one["is_chosen"]] == ["mock"]
    assert all(one["is_usable"] is (one["problem"] is None) for one in found.values())
    assert "mock" in ran(capsys, "providers")[1]


def test_what_a_provider_lacks_is_named_as_the_setting_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """It was "providers.ibm.token: Field required": pydantic's words, for the first of several."""
    code, out = ran(capsys, "providers", "--json", "--providers.azure.resource_group", "lab")
    found = {one["key"]: one["problem"] for one in json.loads(out)["providers"]}
    assert code == 0
    assert found["ibm"] == "providers.ibm.token (the name of a secret) and providers.ibm.instance must be set"
    assert found["azure"].startswith("providers.azure.subscription_id")
    assert found["azure"].endswith(" must be set")
    assert "providers.azure.resource_group" not in found["azure"]


def test_devices_are_asked_for_without_a_daemon(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("devices", "--provider", "mock", "--neuron.full_path", str(tmp_path))
    code, out = ran(capsys, *arguments, "--json")
    document = json.loads(out)
    (account,) = document["accounts"]
    assert (code, document["from"], account["account"], account["problem"]) == (0, "settings", "mock", None)
    device = account["devices"][0]
    assert {"device_id", "num_qubits", "availability", "pending", "next_available", "pricing"} <= set(device)
    code, out = ran(capsys, *arguments)
    assert device["device_id"] in out


def test_a_check_of_the_settings_tells_every_problem_with_its_setting(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ran(capsys, "config", "check", "--axon.port", "many", "--axon.prt", "1", "--json")
    document = json.loads(out)
    assert (code, document["is_sound"]) == (1, False)
    for setting in ("axon.port", "--axon.prt", "jobserver.url", "jobserver.tensorauth_url"):
        assert sum(setting in problem for problem in document["problems"]) >= 1, setting
    assert ran(capsys, "config", "check", *SERVERS)[0] == 0


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("nobody", "provider: 'nobody' is none of aer,"),
        ("ionq", "QCOMPUTE_SECRET_IONQ"),
        ("cluster", "cluster"),
    ],
)
def test_the_chosen_provider_s_own_settings_are_checked_too(
    capsys: pytest.CaptureFixture[str], provider: str, words: str
) -> None:
    code, out = ran(capsys, "config", "check", *SERVERS, "--provider", provider, "--json")
    assert code == 1
    (problem,) = json.loads(out)["problems"]
    assert words in problem


FLEET = """
[budget]
per_job = 1
[routing]
fallback = ["local_cqu"]
[[cluster.nodes]]
provider = "local_cpu"
settings = { memory_byte = 1 }
[[cluster.nodes]]
provider = "ibm_quantum"
ibm_token = "nowhere_set"
instance = "crn:v1:bluemix:public:quantum-computing:us-east:a/0:1::"
[[cluster.nodes]]
provider = "lumi_amd_gpu"
n_nodes = 1
lumi_project = "project_1"
[[cluster.nodes]]
provider = "tests.providers.lab_nodes:LabMachine"
settings = { wall_second = 1 }
"""


def test_every_account_of_a_fleet_is_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A fleet was called sound whatever its accounts were set to: the daemon then ended at its first line."""
    (tmp_path / "fleet.toml").write_text(f'provider = "cluster"\n{FLEET}')
    code, out = ran(capsys, "config", "check", *SERVERS, "--config", str(tmp_path / "fleet.toml"), "--json")
    problems = json.loads(out)["problems"]
    assert code == 1
    for problem, words in zip(
        problems,
        (
            "cluster account 'local_cpu': settings.memory_byte: Extra inputs are not permitted; did you mean memory_b",
            "cluster account 'ibm_quantum': ibm_token: the secret 'nowhere_set' is not set",
            "cluster account 'lumi_amd_gpu': settings.tls_ca_file is not set",
            "cluster account 'labmachine': settings.wall_second: Extra inputs are not permitted; did you mean wall_sec",
            "budget.per_job: with PROVIDER=cluster each account has its own budget",
            "routing.fallback: 'local_cqu' is no account, tag or device; did you mean 'local_cpu'?",
        ),
        strict=True,
    ):
        assert problem.startswith(words)


CONNECTIONS = """
[connections.lab]
provider = "ionq"
settings = { api_key = "nowhere_set" }
[connections.desk]
provider = "mock"
settings = { nonsense = 1 }
[connections.sound]
provider = "mock"
[connections.odd]
provider = "nobody"
[connections.dear]
provider = "mock"
budget = { per_day = "much" }
"""


def connections(folder: Path, chosen: str = "") -> tuple[str, ...]:
    folder.mkdir()
    (folder / "connections.toml").write_text(CONNECTIONS)
    (folder / "connection").write_text(chosen)
    return ("--neuron.full_path", str(folder))


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], list[str]]:
    code, out = ran(capsys, "config", "check", *SERVERS, *arguments, "--json")
    document = json.loads(out)
    assert (code, document["is_sound"]) == (int(bool(document["problems"])), not document["problems"])
    return document["problems"], document["warnings"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lab", "connection lab: providers.ionq.api_key: the secret 'nowhere_set' is not set"),
        ("desk", "connection desk: providers.mock.nonsense: Extra inputs are not permitted"),
        ("odd", "connection odd: 'nobody' is none of aer, azure,"),
        ("dear", "connections.dear.budget.per_day: "),
        ("gone", "there is no connection 'gone'; there are dear, desk, lab, odd, sound"),
    ],
)
def test_a_connection_that_the_daemon_would_start_with_is_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, words: str
) -> None:
    """A connection's name as PROVIDER was looked up as a provider's, and one that was chosen was not looked at."""
    where = connections(tmp_path / "miner", name)
    ((problem,), warnings) = checked(capsys, *where, "--provider", "mock")
    assert problem.startswith(words)
    assert problem.endswith(
        "; it was chosen with `qcompute connections use`: mend it, or go back with `qcompute connections use mock`"
    )
    assert warnings == []
    (tmp_path / "miner" / "connection").unlink()
    ((problem,), _) = checked(capsys, *where, "--provider", name)
    assert problem.startswith("provider: 'gone' is none of aer" if name == "gone" else words)
    assert "connections use" not in problem


def test_the_settings_own_account_is_a_warning_while_another_connection_is_chosen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The daemon starts without it: nothing is wrong before somebody goes back to it."""
    where = (*connections(tmp_path / "miner", "sound"), "--provider", "ionq")
    (problems, (warning,)) = checked(capsys, *where)
    assert problems == []
    assert warning.startswith("ionq, which no new jobs go to now: providers.ionq.api_key: the secret")


def test_a_stand_in_that_is_no_account_is_told_of_one_provider_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Only a fleet was asked whether it has what ``routing.fallback`` names; the daemon asks all it starts with."""
    fallback = ("--routing.fallback", "nonsense")
    ((problem,), _) = checked(capsys, "--provider", "mock", *fallback)
    assert problem.startswith("routing.fallback: 'nonsense' is no account, tag or device; this miner has mock")
    where = connections(tmp_path / "miner")
    ((problem,), _) = checked(capsys, *where, "--provider", "sound", *fallback)
    assert problem.startswith("routing.fallback: 'nonsense' is no account, tag or device; this miner has sound")
    assert checked(capsys, *where, "--provider", "sound", "--routing.fallback", "sound/dev") == ([], [])


def fleet_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    (tmp_path / "fleet.toml").write_text(f'provider = "cluster"\n{text}')
    return ("--config", str(tmp_path / "fleet.toml"))


def test_a_tag_of_an_account_with_a_fault_is_no_second_fault(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An account that lacked a secret lost its tags with it: the stand-in that names one was called misspelt."""
    text = (
        '[routing]\nfallback = ["tag:cloudy"]\n[[cluster.nodes]]\nprovider = "local_cpu"\n'
        '[[cluster.nodes]]\nprovider = "ibm_quantum"\nibm_token = "nowhere_set"\nbackends = ["ibm_one"]\n'
        'instance = "crn:v1:bluemix:public:quantum-computing:us-east:a/0:1::"\ntags = ["cloudy"]\n'
    )
    ((problem,), _) = checked(capsys, *fleet_of(tmp_path, text))
    assert problem.startswith("cluster account 'ibm_quantum': ibm_token: the secret 'nowhere_set' is not set")


def test_every_account_whose_connection_does_not_fit_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The first of them was told alone, and the next after that was mended."""
    text = '[routing]\nfallback = ["tag:perhaps"]\n' + "".join(
        f'[[cluster.nodes]]\nprovider = "ibm_quantum"\nconnection = "{name}"\n' for name in ("gone", "sound")
    )
    where = (*connections(tmp_path / "miner"), *fleet_of(tmp_path, text))
    ((first, second), _) = checked(capsys, *where)
    assert first.startswith("cluster.nodes[0].connection: there is no connection 'gone'")
    assert second.startswith("cluster.nodes[1].connection: sound is of the provider mock")


def test_a_gpu_that_is_not_there_is_a_warning_and_a_wrong_setting_of_it_a_fault(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were told as what ends the start, which went on with the account offline in either case."""

    def no_gpu(method: str) -> str | None:
        return f"there is no GPU for {method}"

    def not_installed(key: str) -> str | None:
        return f"{key} is not installed"

    monkeypatch.setattr(aer_gpu, "probe_gpu", no_gpu)
    gpu = '[[cluster.nodes]]\nprovider = "local_gpu_cuquantum"\n'
    told = "cluster account 'local_gpu_cuquantum' will be offline: there is no GPU for custatevec"
    assert checked(capsys, *fleet_of(tmp_path, gpu)) == ([], [told])
    monkeypatch.setattr(local, "missing_of", not_installed)
    (problems, (warning,)) = checked(capsys, *fleet_of(tmp_path, gpu))
    assert (problems, warning) == ([], f"{told.partition(':')[0]}: aer is not installed")
    ((problem,), warnings) = checked(capsys, *fleet_of(tmp_path, f"{gpu}settings = {{ nonsense = 1 }}\n"))
    assert problem.startswith("cluster account 'local_gpu_cuquantum': settings.nonsense: Extra inputs")
    assert warnings == []


def test_what_the_accounts_of_a_fleet_use_is_marked_as_chosen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The keys of the nodes' providers were compared with those of adapters: nothing was ever chosen."""
    (tmp_path / "fleet.toml").write_text(
        'provider = "cluster"\n[[cluster.nodes]]\nprovider = "local_cpu"\n'
        '[[cluster.nodes]]\nprovider = "custom_rest"\nendpoints = ["http://127.0.0.1:1"]\n'
    )
    code, out = ran(capsys, "providers", *SERVERS, "--config", str(tmp_path / "fleet.toml"), "--json")
    document = json.loads(out)
    assert (code, document["chosen"]) == (0, ["aer", "rest"])
    assert {one["key"]: one["problem"] for one in document["providers"] if one["is_chosen"]} == {
        "aer": None,
        "rest": None,
    }


def test_an_account_that_is_unwell_is_told_with_no_daemon_running_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a daemon nobody asked the health check: `devices` and `doctor` called the account well."""
    (tmp_path / "unwell").touch()
    (tmp_path / "fleet.toml").write_text(
        'provider = "cluster"\n[[cluster.nodes]]\nprovider = "tests.e2e.bench_nodes:BenchNodes"\n'
        f'folder = "{tmp_path}"\n'
    )
    where = ("--config", str(tmp_path / "fleet.toml"), "--neuron.full_path", str(tmp_path / "miner"))
    code, out = ran(capsys, "devices", *SERVERS, *where)
    assert code == 1
    assert "benchnodes: The bench says that it cannot be used: its health_check gave False" in " ".join(out.split())
    settings = load_from([*SERVERS, *where], {}, tmp_path).settings
    (finding,) = asyncio.run(accounts(settings))
    assert (finding.level, finding.subject) == (Level.FAILED, "account benchnodes")
    assert "its health_check gave False" in finding.words


def test_settings_are_shown_with_their_source_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://u:hidden@127.0.0.1:1/d"
    code, out = ran(capsys, "config", "show", *SERVERS, "--ledger.url", url, "--json")
    settings = json.loads(out)["settings"]
    assert code == 0
    assert settings["axon.port"]["from"] == "default"
    assert "hidden" not in out
    assert "hidden" not in ran(capsys, "config", "show", *SERVERS, "--ledger.url", url)[1]


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ("", ["accepted -> ready", "held", "nearly spent", "Traceback (most recent call last):"]),
        ("--job abc", ["accepted -> ready", "held"]),
        ("--action budget_alert", ["nearly spent"]),
        ("--level warning", ["held", "nearly spent"]),
        ("--job abc --lines 1", ["held"]),
    ],
)
def test_both_formats_of_the_log_are_read_and_filtered(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: str,
    messages: list[str],
) -> None:
    (tmp_path / "log").write_text(LOG)
    code, out = ran(capsys, "logs", "log", *options.split(), "--json")
    assert (code, [json.loads(line)["message"] for line in out.splitlines()]) == (0, messages)
    monkeypatch.setattr("sys.stdin", io.StringIO(LOG))
    assert [line.split("  ")[-1] for line in ran(capsys, "logs", *options.split())[1].splitlines()] == messages


def test_a_terminal_is_not_taken_for_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`qcompute logs` alone sat there for ever, without a word, waiting for a log to be typed."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours):
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["logs"]) == 2
    assert "name the log's FILE, or pipe the log in" in capsys.readouterr().err


def test_no_connections_are_said_to_be_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`connections test` said nothing at all then, which looks like all is well."""
    code, out = ran(capsys, "connections", "test", "--neuron.full_path", str(tmp_path))
    assert code == 0
    assert "there are no connections yet: qcompute connections add" in out


def test_a_log_is_followed_into_the_file_that_takes_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("first\n")

    def write() -> None:
        for number in range(40):
            time.sleep(0.05)
            with log.open("a") as file:
                file.write(f"line {number}\n")
            if number == 20:
                log.rename(tmp_path / "log.1")
                log.write_text("after the rotation\n")

    writer = threading.Thread(target=write)
    writer.start()
    code, out = ran(capsys, "logs", "log", "--follow", "--for", "2.6")
    writer.join()
    lines = out.splitlines()
    assert (code, lines[:3]) == (0, ["first", "line 0", "line 1"])
    assert lines.index("line 20") < lines.index("after the rotation") < lines.index("line 21")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.34, "340 ms"), (2.13, "2.1 s"), (250, "4 min 10 s"), (11100, "3 h 5 min"), (187200, "2 d 4 h"), (-5, "-5.0 s")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
