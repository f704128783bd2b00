"""What ``qcompute connections`` does to files, and what it refuses, without a daemon."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from typing_extensions import override

from qcompute.cluster import open_account
from qcompute.connections.definitions import Choice, Definition, Definitions
from qcompute.connections.findings import Grade
from qcompute.connections.operations import ConnectionRefused, Connections, Unusable, parsed_settings
from qcompute.connections.vault import Vault
from qcompute.console.__main__ import main
from qcompute.console.arguments import Invocation, settings_from
from qcompute.errors import ConfigError
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import State, Verdict
from qcompute.miner.opening import AccountOpener
from qcompute.miner.settings import Settings
from qcompute.testing.ledger_records import brought_to
from qcompute.units import ProviderKey
from tests.doubles.rest import TOKEN, RestDouble
from tests.ledger.postgres_server import empty_database, ledger_database, shared_server
from tests.terminal import Terminal
from tests.unit.console.ledgers import fill_ledger, with_held

ROOT = Path(__file__).parents[3]
STEPS = [State.READY, State.SUBMITTING, State.WAITING, State.SETTLED, State.CLOSED]


def settings(folder: Path, **more: str) -> Settings:
    flags = {"neuron.full_path": str(folder), "connections.key_file": str(folder / "key"), "provider": "mock"}
    words = [word for name, value in (flags | more).items() for word in (f"--{name}", value)]
    return settings_from(words, {}, folder)


def ours(folder: Path, **more: str) -> Connections:
    return Connections(settings(folder, **more))


def lab(double: RestDouble, **more: object) -> Definition:
    return Definition(provider="rest", settings={"base_urls": [double.url], **more})


def test_what_is_added_is_found_again_and_removed_with_its_credential(tmp_path: Path) -> None:
    with RestDouble() as double:
        changed = ours(tmp_path).add("lab-1", lab(double), values={"token": f"{TOKEN}\n"})
        assert list(changed.places) == ["lab_1_token"]
        again = ours(tmp_path)
        assert again.definitions.get("lab-1").settings["token"] == "lab_1_token"
        assert [one.grade for one in again.test("lab-1")] == [Grade.OK] * 3
        row = again.rows()[0]
        assert (row.credentials, row.in_use) == ({"token": "lab_1_token"}, False)
        assert again.remove("lab-1") == ["lab_1_token"]
        assert again.store.where("lab_1_token").place is None
        assert again.rows() == []


def test_a_connection_that_cannot_be_used_is_not_kept(tmp_path: Path) -> None:
    with RestDouble() as double:
        with pytest.raises(Unusable) as refused:
            ours(tmp_path).add("lab", lab(double), values={"token": "wrong"})
        assert "the key is not accepted" in str(refused.value.findings)
        assert not (tmp_path / "connections.toml").exists()
        assert not (tmp_path / "credentials.json").exists()
        ours(tmp_path).add("lab", lab(double), values={"token": "wrong"}, untested=True)
        assert list(ours(tmp_path).definitions.all()) == ["lab"]


def typed(words: list[str], told: Settings, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of ``qcompute connections …`` for a miner with these settings."""

    def settings_of(_: Invocation) -> Settings:
        return told

    monkeypatch.setattr(Invocation, "settings", settings_of)
    return main(["connections", *words])


def test_a_new_value_that_does_not_work_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RestDouble() as double:
        it = ours(tmp_path)
        it.add("lab", lab(double), values={"token": TOKEN})
        with pytest.raises(Unusable):
            it.rotate("lab", None, "wrong")
        assert it.store.value("lab_token") == TOKEN
        double.token = "another"
        monkeypatch.setenv("QCOMPUTE_SECRET_LAB_TOKEN", "old")
        changed = it.rotate("lab", "token", "another")
        assert it.store.value("lab_token") == "another"
        assert changed.notes == [
            "no daemon is running",
            "the variable QCOMPUTE_SECRET_LAB_TOKEN is not looked at any more: unset it",
        ]


def test_a_working_variable_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_TOKEN", TOKEN)
    with RestDouble() as double:
        words = ["add", "lab", "rest", "--set", f'base_urls=["{double.url}"]', "--from-environment"]
        assert typed(words, settings(tmp_path), monkeypatch) == 0  # token is optional, and taken all the same
        monkeypatch.delenv("QCOMPUTE_SECRET_LAB_TOKEN")
        assert ours(tmp_path).store.value("lab_token") == TOKEN
        with pytest.raises(ConfigError, match="nothing to take over"):
            ours(tmp_path).environment_value("lab", None)


@pytest.mark.parametrize(
    ("name", "provider", "values", "words"),
    [
        ("mock", "mock", {}, "provider's name"),
        ("cluster", "mock", {}, "provider's name"),
        ("Lab", "mock", {}, "small letters"),
        ("lab", "nobody", {}, "is not a provider"),
        ("lab", "mock", {"token": "x"}, "has no credentials"),
        ("lab", "rest", {"tokken": "x"}, "its credentials are: token"),
        ("lab", "rest", {"token": " "}, "empty"),
    ],
)
def test_what_cannot_be_a_connection(
    tmp_path: Path, name: str, provider: str, values: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ours(tmp_path).add(name, Definition(provider=provider), values=values)
    assert not (tmp_path / "connections.toml").exists()


def test_a_key_written_where_its_name_belongs_is_refused_and_not_shown(tmp_path: Path) -> None:
    key = "sk1a2b3c4d5e6f7a8b9c0d1e2f"
    definition = Definition(provider="rest", settings={"base_urls": ["http://127.0.0.1:9"], "token": key})
    with pytest.raises(Unusable) as refused:
        ours(tmp_path).add("lab", definition, values={})
    assert key not in str(refused.value.findings)
    assert not (tmp_path / "connections.toml").exists()


def test_without_a_daemon_the_choice_is_for_its_next_start(tmp_path: Path) -> None:
    it = ours(tmp_path)
    it.add("trial", Definition(provider="mock", budget={"per_day": "3"}), values={})
    assert it.use("trial") == "no daemon is running; the next one starts with trial"
    with pytest.raises(ConnectionRefused, match="new jobs go to trial"):
        it.remove("trial")
    opener = AccountOpener(settings(tmp_path))
    assert opener.first() == "trial"
    fleet = opener.fleet("trial")
    assert fleet.names == {"trial"}
    assert fleet.budgets.documents()[0]["periods"]["day"]["limit"] == "3"
    assert AccountOpener(settings(tmp_path, provider="trial")).home == "trial"
    it.use("mock")
    assert (Choice(tmp_path / "connection").read(), it.in_use()) == (None, "mock")
    it.remove("trial")


def test_a_choice_that_is_gone_says_how_to_go_back(tmp_path: Path) -> None:
    Choice(tmp_path / "connection").write("gone")
    opener = AccountOpener(settings(tmp_path))
    with pytest.raises(ConfigError, match=r"no connection 'gone'.*`qcompute connections use mock`"):
        opener.fleet(opener.first())


def test_on_postgres_switching_is_refused_and_a_choice_too(tmp_path: Path) -> None:
    it = ours(tmp_path, **{"ledger.url": "postgresql://127.0.0.1/none"})
    it.definitions.add("trial", Definition(provider="mock"))
    with pytest.raises(
        ConnectionRefused,
        match="set PROVIDER to its name in the settings of each, and restart them one after the other",
    ):
        it.use("trial")
    it.choice.write("trial")
    with pytest.raises(
        ConfigError, match="set PROVIDER to its name in the settings of each, and restart them one after the other"
    ):
        AccountOpener(settings(tmp_path, **{"ledger.url": "postgresql://127.0.0.1/none"})).first()


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_connection_with_open_jobs_is_not_removed_whichever_ledger_has_them(tmp_path: Path, is_shared: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """On Postgres the daemon on the same machine alone was asked: with none there, a connection with jobs went."""
    with ledger_database() if is_shared else nullcontext("") as database:
        told = settings(tmp_path, **({"ledger.url": shared_server().url(database)} if is_shared else {}))

        async def fill(ledger: Ledger) -> None:
            for account, state in (("trial", State.WAITING), ("trial", State.CLOSED), ("done", State.CLOSED)):
                job = await brought_to(ledger, f"{account}-{state}", State.ACCEPTED)
                for step in STEPS[: STEPS.index(state) + 1]:
                    verdict = Verdict.SUCCEEDED if step in (State.SETTLED, State.CLOSED) else None
                    job = await ledger.save(
                        job, replace(job, state=step, verdict=verdict, provider=ProviderKey(account), upload_id="u")
                    )

        fill_ledger(told.ledger, fill)
        it = Connections(told)
        for name in ("done", "trial"):
            it.definitions.add(name, Definition(provider="mock"))
        assert it.remove("done") == []
        with pytest.raises(ConnectionRefused, match="1 jobs at trial are not done yet"):
            it.remove("trial")
        assert list(it.definitions.all()) == ["trial"]


def test_without_a_ledger_there_are_no_jobs_at_a_connection(tmp_path: Path) -> None:
    with empty_database() as database:
        it = ours(tmp_path, **{"ledger.url": shared_server().url(database)})
        it.definitions.add("trial", Definition(provider="mock"))
        assert it.remove("trial") == []


def test_a_file_edited_by_hand_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "connections.toml"
    for text, words in [
        ("[connections.lab]\nsettings = {}", "connections.lab.provider"),
        ("[lab]\nprovider = 'mock'", "lab is unknown"),
        ("connections = 3", r"write \[connections.NAME\]"),
        ("[connections.LAB]\nprovider = 'mock'", "small letters"),
        ("= no", "not TOML"),
    ]:
        file.write_text(text)
        with pytest.raises(ConfigError, match=words):
            Definitions(file).all()


def test_settings_are_typed_and_nested() -> None:
    assert parsed_settings(["a=1", "b.c=true", "b.d=text", 'e=["x"]', "f=us-east-1"]) == {
        "a": 1,
        "b": {"c": True, "d": "text"},
        "e": ["x"],
        "f": "us-east-1",
    }
    for wrong in (["key"], ["a=1", "a.b=2"]):
        with pytest.raises(ConfigError):
            parsed_settings(wrong)


def test_the_command_as_an_operator_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{TOKEN}\n"))
    told = settings(tmp_path)
    with RestDouble() as double:
        words = ["add", "lab", "rest", "--set", f'base_urls=["{double.url}"]', "--stdin", "--json"]
        assert typed(words, told, monkeypatch) == 0
        assert json.loads(capsys.readouterr().out)["message"] == "lab is added"
        assert typed(["list"], told, monkeypatch) == 0
        listed = capsys.readouterr().out
        assert "lab_token (the encrypted file" in listed.replace("\n", " ")
        assert "new jobs go to: mock" in listed
        double.token = "changed"
        assert typed(["test"], told, monkeypatch) == 1
        tested = capsys.readouterr().out
        assert "FAILED" in tested
        assert TOKEN not in listed + tested
    assert typed(["use"], told, monkeypatch) == 2


def test_a_secret_is_never_an_argument_and_a_prompt_needs_a_terminal(tmp_path: Path) -> None:
    flags = ["--neuron.full_path", str(tmp_path)]
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", "qcompute.console", "connections", "rotate", "lab", *flags],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no terminal to ask at: use --stdin, --value-file or --from-environment" in done.stderr


def test_a_connection_without_a_value_is_told_how_to_be_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a connection that was not there yet it said "store it with `qcompute connections rotate`"."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))  # no terminal: nobody is asked
    told = settings(tmp_path)
    assert typed(["add", "cloud", "ionq"], told, monkeypatch) == 2
    said = capsys.readouterr().err
    assert "api_key of cloud has no value: give it with --stdin, --value-file api_key=FILE or" in said
    assert "rotate" not in said
    assert typed(["add", "cloud", "ionq", "--credential", "api_key=kept"], told, monkeypatch) == 2
    Connections(told).store.put("kept", "x")
    assert typed(["add", "cloud", "ionq", "--credential", "api_key=kept", "--untested"], told, monkeypatch) == 0
    assert Connections(told).definitions.get("cloud").settings == {"api_key": "kept"}


def test_a_terminal_asks_for_a_key_and_a_passphrase_and_shows_neither(tmp_path: Path) -> None:
    """The key is tried at the lab first; then the encrypted file is made, with a passphrase typed twice.

    The lab's adapter can do without a token, so nobody was asked for it, whatever the page said.
    """
    passphrase = "correct horse"
    flags = ["--neuron.full_path", str(tmp_path), "--connections.store", "file", "--provider", "mock"]
    with RestDouble() as double:
        words = ["add", "lab", "rest", "--set", f'base_urls=["{double.url}"]', *flags]
        with Terminal("-m", "qcompute.console", "connections", *words, environ={"HOME": str(tmp_path)}) as terminal:
            terminal.shows("token of lab, or Enter for none (not shown): ")
            terminal.types(TOKEN)
            terminal.shows(f"passphrase of {tmp_path / 'credentials.json'}: ")
            terminal.types(passphrase)
            terminal.shows("again: ")
            terminal.types(passphrase)
            assert terminal.ends() == 0, terminal.screen
    assert "lab is added" in terminal.screen
    assert "lab_token is kept in the encrypted file" in terminal.screen
    for secret in (TOKEN, passphrase):
        assert secret not in terminal.screen
        assert not [file for file in tmp_path.iterdir() if secret in file.read_text()]
    assert Vault(tmp_path / "credentials.json", None, lambda: passphrase).get("lab_token") == TOKEN


def test_enter_leaves_out_what_a_provider_can_do_without(tmp_path: Path) -> None:
    flags = ["--neuron.full_path", str(tmp_path), "--provider", "mock"]
    with RestDouble(token=None) as double:
        words = ["add", "open", "rest", "--set", f'base_urls=["{double.url}"]', *flags]
        with Terminal("-m", "qcompute.console", "connections", *words, environ={"HOME": str(tmp_path)}) as terminal:
            terminal.shows("Enter for none (not shown): ")
            terminal.types("")
            assert terminal.ends() == 0, terminal.screen
    assert ours(tmp_path).definitions.get("open").settings == {"base_urls": [double.url]}


class WatchedLab(RestDouble):
    """Sees, while it is asked, which processes have a text among their arguments or variables."""

    def __init__(self, *, token: str, looked_for: str) -> None:
        super().__init__(token=token)
        self._looked_for = looked_for.encode()
        self.looks = 0
        self.seen: list[str] = []

    @override
    def _let_in(self, request: web.Request, *, jobs: bool = False) -> None:
        self.looks += 1
        for file in [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]:
            with suppress(OSError):  # another user's, or it has just ended
                if self._looked_for in file.read_bytes():
                    self.seen.append(str(file))
        super()._let_in(request, jobs=jobs)


def test_the_settings_own_key_is_listed_and_rotated_at_a_terminal_that_does_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The credentials of a ``[providers.X]`` table were in no list, and `rotate` knew connections alone."""
    new = "a-key-nobody-may-see"
    with WatchedLab(token=new, looked_for=new) as double:
        (tmp_path / "miner.toml").write_text(f'[providers.rest]\nbase_urls = ["{double.url}"]\ntoken = "qpu"\n')
        more = {"config": str(tmp_path / "miner.toml"), "provider": "rest", "connections.store": "file"}
        told = settings(tmp_path, **more)
        assert typed(["list"], told, monkeypatch) == 0
        assert "qpu (NOT SET)" in capsys.readouterr().out
        flags = [word for name, value in more.items() for word in (f"--{name}", value)]
        flags += ["--neuron.full_path", str(tmp_path), "--connections.key_file", str(tmp_path / "key")]
        words = ["connections", "rotate", "rest", *flags]
        with Terminal("-m", "qcompute.console", *words, environ={"HOME": str(tmp_path)}) as terminal:
            terminal.shows("new value of rest (not shown): ")
            terminal.types(new)
            terminal.shows("rest has its new value")
            assert terminal.ends() == 0, terminal.screen
    assert new not in terminal.screen
    assert (double.looks > 0, double.seen) == (True, [])
    it = Connections(told)
    assert it.store.value("qpu") == new
    assert typed(["list", "--json"], told, monkeypatch) == 0
    place = f"the encrypted file {tmp_path / 'credentials.json'}"
    row = {"provider": "rest", "credentials": {"token": "qpu"}, "places": {"qpu": place}}
    assert json.loads(capsys.readouterr().out)["settings"] == row


def test_a_key_of_the_settings_needs_a_name_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give one a name in the settings first: providers.rest.token"):
        ours(tmp_path, provider="rest").rotate("rest", None, "new")
    it = ours(tmp_path)
    assert it.home_row() is None
    it.definitions.add("lab", Definition(provider="rest", settings={"token": "lab_token"}))
    assert ours(tmp_path, provider="lab").home_row() is None


FLEET = """
[[cluster.nodes]]
provider = "custom_rest"
connection = "lab"
name = "forge"

[[cluster.nodes]]
provider = "custom_rest"
endpoints = ["http://127.0.0.1:1"]
[cluster.nodes.settings.nodes.left]
url = "http://127.0.0.1:2"
token = "left_key"

[[cluster.nodes]]
provider = "tests.providers.lab_nodes:LabMachine"
"""


def in_cluster(folder: Path) -> Settings:
    (folder / "fleet.toml").write_text(FLEET)
    return settings(folder, provider="cluster", config=str(folder / "fleet.toml"))


@pytest.mark.parametrize("provider", ["local_cpu", "tests.providers.lab_nodes:LabMachine"])
def test_an_account_whose_jobs_the_daemon_has_is_well(tmp_path: Path, provider: str) -> None:
    """Beside the daemon a simulator's account was FAILED, since its spool was locked.

    Jobs of own nodes, whose spool was not, were marked as ones that may have run.
    """
    (tmp_path / "fleet.toml").write_text(f'[[cluster.nodes]]\nprovider = "{provider}"\nname = "ours"\n')
    told = settings(tmp_path, provider="cluster", config=str(tmp_path / "fleet.toml"))
    plan = open_account(told.cluster, tmp_path, "ours")
    assert plan is not None
    plan.adapter.begin()
    for name in ("runs.job.json", "runs.started"):
        if (folder := tmp_path / "ours" / "nodes").exists():
            (folder / name).write_text('{"created": 1.0, "node": "lab-0", "source": "", "shots": 1}')
    before = sorted(tmp_path.rglob("*"))
    findings = Connections(told).test("ours")
    after = sorted(tmp_path.rglob("*"))
    plan.adapter.close()
    assert [one.grade for one in findings] == [Grade.OK] * len(findings)
    assert before == after


def test_with_a_cluster_its_accounts_are_listed_with_their_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those further in, and what nobody has set."""
    told = in_cluster(tmp_path)
    it = Connections(told)
    it.definitions.add("lab", Definition(provider="rest", settings={"base_urls": ["http://x"], "token": "lab_token"}))
    it.store.put("lab_token", TOKEN)
    assert typed(["list", "--json"], told, monkeypatch) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert [(one["name"], one["connection"], one["credentials"]) for one in nodes] == [
        ("forge", "lab", {"token": "lab_token"}),
        ("custom_rest", None, {"nodes.left.token": "left_key"}),
        ("labmachine", None, {}),
    ]
    assert nodes[0]["places"] == {"lab_token": f"the encrypted file {tmp_path / 'credentials.json'}"}
    assert typed(["list"], told, monkeypatch) == 0
    listed = capsys.readouterr().out
    assert "left_key (NOT SET)" in listed
    assert TOKEN not in listed


def test_the_credential_of_a_node_s_own_table_is_tested_and_rotated(tmp_path: Path) -> None:
    """It was in the list, and `rotate` knew connections and PROVIDER alone: "there is no connection 'bench'"."""
    with RestDouble(token="new") as double:
        fleet = f'[[cluster.nodes]]\nprovider = "custom_rest"\nname = "bench"\nendpoints = ["{double.url}"]\n'
        (tmp_path / "fleet.toml").write_text(f'{fleet}api_key = "bench_key"\n{FLEET}')
        it = ours(tmp_path, provider="cluster", config=str(tmp_path / "fleet.toml"))
        it.definitions.add("lab", Definition(provider="rest", settings={"base_urls": ["http://x"]}))
        it.store.put("bench_key", "old")
        assert Grade.FAILED in {one.grade for one in it.test("bench")}
        with pytest.raises(Unusable):
            it.rotate("bench", None, "neither")
        assert it.store.value("bench_key") == "old"
        changed = it.rotate("bench", None, "new")
        assert (it.store.value("bench_key"), changed.notes) == ("new", ["no daemon is running"])
        assert Grade.FAILED not in {one.grade for one in it.test("bench")}
    for name, words in (
        ("forge", "has its credentials from a connection: name it, lab"),
        ("labmachine", "labmachine has 0 credentials"),
        ("cluster", "the cluster has several accounts: name one"),
        ("nowhere", "there is no connection 'nowhere'"),
    ):
        with pytest.raises(ConfigError, match=words):
            it.rotate(name, None, "new")


def test_a_connection_that_a_node_names_is_not_used_a_second_time_and_not_removed(tmp_path: Path) -> None:
    """Its account would be open twice: two budgets, and twice the rate that the vendor bears."""
    told = in_cluster(tmp_path)
    it = Connections(told)
    for name in ("lab", "other"):
        it.definitions.add(name, Definition(provider="rest", settings={"base_urls": ["http://127.0.0.1:1"]}))
    refusal = (
        "lab is in the cluster already, as the account forge: put its .* table first and set routing.policy to order"
    )
    with pytest.raises(ConfigError, match=refusal):
        it.use("lab", unchecked=True)
    assert it.choice.read() is None
    with pytest.raises(ConnectionRefused, match="the account forge of the cluster is from lab"):
        it.remove("lab")
    opener = AccountOpener(told)
    assert opener.choices() == ["cluster", "other"]
    assert (opener.accounts_of("lab"), opener.accounts_of("other")) == (["forge", "lab"], ["other"])
    it.use("other", unchecked=True)
    assert opener.first() == "other"
    it.choice.write("lab")
    with pytest.raises(ConfigError, match="go back with `qcompute connections use cluster`"):
        opener.first()
    it.use("cluster")
    assert opener.first() == "cluster"


def test_a_fleet_that_cannot_be_read_is_told_beside_what_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = in_cluster(tmp_path)
    Connections(told).definitions.add("other", Definition(provider="mock"))
    assert typed(["list"], told, monkeypatch) == 1
    listed = capsys.readouterr().out
    assert "cluster.nodes[0].connection: there is no connection 'lab'; there are other" in listed
    assert "new jobs go to: cluster" in listed
    assert typed(["list", "--json"], told, monkeypatch) == 1
    assert "no connection 'lab'" in json.loads(capsys.readouterr().out)["nodes_problem"]


def test_nested_credentials_are_the_connection_s_too(tmp_path: Path) -> None:
    """They were in no list, could not be rotated, and went with another connection that had one of the same name."""
    it = ours(tmp_path)
    nodes = {"left": {"url": "http://127.0.0.1:1", "token": "left_key"}}
    it.definitions.add("one", Definition(provider="rest", settings={"nodes": nodes}))
    it.definitions.add("two", Definition(provider="rest", settings={"token": "left_key"}))
    it.store.put("left_key", "old")
    assert it.rows()[0].credentials == {"nodes.left.token": "left_key"}
    assert it.remove("two") == []
    it.rotate("one", "nodes.left.token", "new", untested=True)
    assert it.store.value("left_key") == "new"
    assert it.remove("one") == ["left_key"]


def test_a_node_s_budget_is_that_of_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a daemon too: the ledger alone would show an account without any limit."""
    told = in_cluster(tmp_path)
    definition = Definition(provider="rest", settings={"base_urls": ["http://x"]}, budget={"per_day": "3"})
    Connections(told).definitions.add("lab", definition)

    def settings_of(_: Invocation) -> Settings:
        return told

    monkeypatch.setattr(Invocation, "settings", settings_of)
    with_held(told.ledger.file)
    assert main(["budget", "--json"]) == 0
    accounts = {one["account"]: one for one in json.loads(capsys.readouterr().out)["accounts"]}
    assert accounts["forge"]["periods"]["day"]["limit"] == "3"
    assert accounts["custom_rest"]["periods"]["day"]["limit"] is None
