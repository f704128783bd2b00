"""What the daemon is given of a fleet, whichever way it is written."""

from __future__ import annotations

import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from qcompute.cluster import AccountPlan, ClusterBuilder, ClusterSettings, make_local_cluster, open_cluster
from qcompute.cluster.accounts import slots_of
from qcompute.cluster.adapter import NodeAdapter
from qcompute.cluster.builtin.late import LateAdapter
from qcompute.cluster.connected import credentials_of
from qcompute.errors import ConfigError, Unavailable, VendorError
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers import aer
from qcompute.miner.providers.aer import AerAdapter
from qcompute.miner.settings_load import load_from

FLEET = """
[[cluster.nodes]]
provider = "local_cpu"
n_nodes = 2
max_qubits = 20
tags = ["desk"]

[[cluster.nodes]]
provider = "custom_rest"
name = "forge"
endpoints = ["http://127.0.0.1:1"]
settings = { health_path = "" }
[cluster.nodes.budget]
per_day = 5
currency = "EUR"

[[cluster.nodes]]
provider = "tests.providers.lab_nodes:LabMachine"
n_nodes = 1
[cluster.nodes.settings]
wall_seconds = 60.0
"""


def fleet() -> ClusterBuilder:
    """The same in Python."""
    return (
        ClusterBuilder()
        .add("local_cpu", n_nodes=2, max_qubits=20, tags=("desk",))
        .add(
            "custom_rest",
            name="forge",
            endpoints=["http://127.0.0.1:1"],
            settings={"health_path": ""},
            budget=BudgetSettings(per_day=Decimal(5), currency="EUR"),
        )
        .add("tests.providers.lab_nodes:LabMachine", n_nodes=1, settings={"wall_seconds": 60.0})
    )


BUILT_HERE = fleet()

CHECKED = "__import__('pydantic').TypeAdapter(dict[str, int])"


def built_already() -> object:
    return make_local_cluster(1)


def wrong() -> object:
    return ClusterBuilder().add("local_cpu", n_nodez=1)


def read(text: str) -> ClusterSettings:
    return ClusterSettings.model_validate(tomllib.loads(text).get("cluster", {}))


def path(name: str) -> ClusterSettings:
    return ClusterSettings(builder=f"tests.unit.cluster.test_accounts:{name}")


def closed(plans: list[AccountPlan]) -> list[AccountPlan]:
    for plan in plans:
        plan.adapter.close()
    return plans


def test_a_fleet_is_the_same_in_toml_in_a_function_and_in_a_builder() -> None:
    in_toml = slots_of(read(FLEET))
    assert in_toml == slots_of(path("fleet")) == slots_of(path("BUILT_HERE")) == fleet().slots
    assert [slot.name for slot in in_toml] == ["local_cpu", "forge", "labmachine"]


def test_so_are_its_accounts(tmp_path: Path) -> None:
    def facts(plans: list[AccountPlan]) -> list[object]:
        return [(one.name, one.vendor, one.budget, one.nodes, type(one.adapter)) for one in closed(plans)]

    first = facts(open_cluster(read(FLEET), tmp_path / "a"))
    assert first == facts(open_cluster(path("fleet"), tmp_path / "b"))


def test_an_account_has_its_own_adapter_budget_and_folder(tmp_path: Path) -> None:
    plans = open_cluster(read(FLEET), tmp_path)
    for plan in plans:
        plan.adapter.begin()
    desk, forge, lab = closed(plans)
    assert [(plan.name, plan.vendor) for plan in plans] == [
        ("local_cpu", "aer"),
        ("forge", "rest"),
        ("labmachine", "tests.providers.lab_nodes:LabMachine"),
    ]
    assert isinstance(desk.adapter, AerAdapter)
    assert isinstance(lab.adapter, NodeAdapter)
    assert desk.budget == lab.budget == BudgetSettings()
    assert (forge.budget.per_day, forge.budget.currency) == (Decimal(5), "EUR")
    assert [(node.node_id, node.device_id, node.max_qubits) for node in desk.nodes] == [
        ("local-cpu-0", "aer_automatic", 20),
        ("local-cpu-1", "aer_automatic", 20),
    ]
    assert [node.device_id for node in lab.nodes] == [device.device_id for device in lab.adapter.list_devices()]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["labmachine", "local_cpu"]
    assert (tmp_path / "local_cpu" / "aer").is_dir()


def test_health_is_asked_of_each_account_and_says_why_not(tmp_path: Path) -> None:
    nobody = read('[[cluster.nodes]]\nprovider="custom_rest"\nendpoints=["http://127.0.0.1:1"]')
    desk, forge, lab = plans = open_cluster(read(FLEET), tmp_path)
    desk.health_check()
    forge.health_check()
    lab.health_check()
    closed(plans)
    (plan,) = open_cluster(nobody, tmp_path)
    with pytest.raises(VendorError, match="Custom REST endpoints: no device is available"):
        plan.health_check()
    closed([plan])


def no_gpu(method: str) -> str | None:
    return f"there is no GPU for {method}"


def test_a_wrong_setting_of_a_gpu_keeps_the_miner_from_starting(tmp_path: Path) -> None:
    """It made the account offline for ever, as a GPU that is not there does: nobody was told at the start."""
    text = '[[cluster.nodes]]\nprovider="local_gpu_aer"\nn_nodes=2\nsettings={nonsense=1}'
    with pytest.raises(ConfigError, match=r"^cluster account 'local_gpu_aer': settings\.nonsense: Extra inputs"):
        open_cluster(read(text), tmp_path)


def test_a_gpu_that_is_not_there_does_not_keep_the_others_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its account has no device, so nothing is advertised, and its health check says why."""
    monkeypatch.setattr(aer, "probe_gpu", no_gpu)
    text = '[[cluster.nodes]]\nprovider="local_cpu"\n[[cluster.nodes]]\nprovider="local_gpu_aer"'
    cpu, gpu = plans = open_cluster(read(text), tmp_path)
    assert isinstance(gpu.adapter, LateAdapter)
    assert gpu.adapter.list_devices() == []
    with pytest.raises(ConfigError, match=r"cluster account 'local_gpu_aer': .*there is no GPU"):
        gpu.health_check()
    with pytest.raises(Unavailable):
        gpu.adapter.submit("circuit")
    cpu.health_check()
    closed(plans)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"write \[\[cluster\.nodes\]\] tables, or set cluster\.builder"),
        ('[[cluster.nodes]]\nprovider="lokal"', r"cluster\.nodes\[0\]: no node provider 'lokal'; known are"),
        ('[[cluster.nodes]]\nprovider="local_cpu"\nn_node=1', r"cluster\.nodes\[0\]: .*did you mean n_nodes\?"),
        (
            '[[cluster.nodes]]\nprovider="local_cpu"\n[[cluster.nodes]]\nprovider="local_cpu"\nname="local_cpu"',
            r"cluster\.nodes\[1\]: two accounts of the cluster are named 'local_cpu'",
        ),
        ('[[cluster.nodes]]\nprovider="local_cpu"\nsettings={spol="x"}', "cluster account 'local_cpu': .*spol"),
        (
            '[[cluster.nodes]]\nprovider="lumi_amd_gpu"\nn_nodes=1',
            "cluster account 'lumi_amd_gpu': lumi_project is not",
        ),
        (
            '[[cluster.nodes]]\nprovider="lumi_amd_gpu"\nn_nodes=1\nlumi_project="project_1"',
            "cluster account 'lumi_amd_gpu': settings.tls_ca_file is not set",
        ),
        (
            '[[cluster.nodes]]\nprovider="custom_rest"\nendpoints=["ftp://lab"]',
            r"cluster account 'custom_rest': endpoints\.0: a base URL is http\(s\)://host\[:port\]\[/path\]$",
        ),
        ('[[cluster.nodes]]\nprovider="custom_rest"\nendpoints="http://lab"', "endpoints: Input should be a list"),
        (
            '[[cluster.nodes]]\nprovider="ibm_quantum"\nname="berlin"\nibm_token="lab"',
            "cluster account 'berlin': instance = 'ibm-q/open/main' is of IBM's old platform",
        ),
        ('[[cluster.nodes]]\nprovider="local_cpu"\nprovider_name="x"', r"cluster\.nodes\[0\]: .*provider_name"),
        ('[[cluster.nodes]]\nprovider="local_cpu"\nself="x"', r"cluster\.nodes\[0\]: .*self"),
    ],
)
def test_a_fleet_that_cannot_work_is_refused_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        open_cluster(read(text), tmp_path)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("def x(:", r"SyntaxError in .*own_nodes\.py, line 1"),
        ("import nidaqmx_is_not_here", "No module named 'nidaqmx_is_not_here'"),
        ("secret = 'hunter2'\nraise RuntimeError(secret)", r"RuntimeError in .*own_nodes\.py, line 2"),
    ],
)
def test_a_module_of_the_operator_s_that_is_broken_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, told: str
) -> None:
    """Whatever it raised but ImportError ended `qcompute config check`, and the daemon, with a traceback."""
    (tmp_path / "own_nodes.py").write_text(module)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(
        ConfigError, match=rf"cluster\.nodes\[0\]: no node provider 'own_nodes:Bench': {told}"
    ) as raised:
        open_cluster(read('[[cluster.nodes]]\nprovider="own_nodes:Bench"'), tmp_path)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match=rf"cluster\.builder: own_nodes cannot be imported: {told}"):
        open_cluster(ClusterSettings(builder="own_nodes:fleet"), tmp_path)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("RuntimeError('hunter2')", r"RuntimeError in .*own_nodes_too\.py, line 6"),
        ("ValueError()", r"ValueError in .*own_nodes_too\.py, line 6"),
        ("ValueError('n_nodes is odd')", "n_nodes is odd"),
        ("KeyError('bench')", "KeyError: bench"),
        ("PermissionError(13, 'Not allowed', '/srv/bench.json')", r"PermissionError: /srv/bench\.json: Not allowed"),
        ("ConnectionRefusedError(111, 'hunter2')", r"ConnectionRefusedError in .*own_nodes_too\.py, line 6"),
        (
            f"{CHECKED}.validate_python({{'api_key': 'tok_live_1'}})",
            "api_key: Input should be a valid integer, unable .*",
        ),
    ],
)
def test_what_an_operator_s_code_raises_is_told_with_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, told: str
) -> None:
    """Pydantic's error is a ValueError whose text quotes what was given: a key in the wrong place was printed.

    Of a file that cannot be read its name was left out, and `connections list` ended with a traceback.
    """
    (tmp_path / "own_nodes_too.py").write_text(
        "from tests.providers.lab_nodes import LabMachine\n\n\n"
        f"class Bench(LabMachine):\n    def build_nodes(self, **kwargs):\n        raise {raised}\n\n\n"
        "def fleet():\n    return Bench().build_nodes()\n"
    )
    monkeypatch.delitem(sys.modules, "own_nodes_too", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    bench = read('[[cluster.nodes]]\nprovider="own_nodes_too:Bench"')
    with pytest.raises(ConfigError, match=rf"^cluster account 'bench': {told}$") as refused:
        open_cluster(bench, tmp_path)
    assert "tok_live" not in refused.value.message
    with pytest.raises(ConfigError, match=rf"^cluster account 'bench': {told}$"):
        credentials_of(slots_of(bench)[0])
    with pytest.raises(ConfigError, match=rf"^cluster\.builder: own_nodes_too:fleet: {told}$"):
        open_cluster(ClusterSettings(builder="own_nodes_too:fleet"), tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such", "has no attribute 'no_such'"),
        ("closed", "missing 1 required positional argument|must be a ClusterBuilder"),
        ("FLEET", "must be a ClusterBuilder or a function that returns one"),
        ("built_already", "return the ClusterBuilder, not built"),
        ("wrong", r"did you mean n_nodes\?"),
    ],
)
def test_a_builder_that_is_none_is_refused(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"cluster.builder: .*({told})"):
        open_cluster(path(name), tmp_path)


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.builder: no_such_lab cannot be imported"):
        open_cluster(ClusterSettings(builder="no_such_lab:cluster"), tmp_path)


def test_what_was_opened_is_closed_when_a_later_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    real = AerAdapter.close

    def close(adapter: AerAdapter) -> None:
        ended.append("aer")
        real(adapter)

    monkeypatch.setattr(AerAdapter, "close", close)
    with pytest.raises(ConfigError, match="lumi"):
        open_cluster(
            read('[[cluster.nodes]]\nprovider="local_cpu"\n[[cluster.nodes]]\nprovider="lumi_amd_gpu"\nn_nodes=1'),
            tmp_path,
        )
    assert ended == ["aer"]


@pytest.mark.parametrize(
    "table",
    [
        {"builder": "a:b", "nodes": [{"provider": "local_cpu"}]},
        {"builder": "no path"},
        {"node": []},
        {"nodes": [{"name": "x"}]},
        {"nodes": {"provider": "local_cpu"}},
        {"nodes": [{"provider": "local_cpu", "name": "My Lab"}]},
        {"nodes": [{"provider": "local_cpu", "budget": {"per_dya": 1}}]},
    ],
)
def test_settings_are_checked(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClusterSettings.model_validate(table)


@pytest.mark.parametrize(
    "table", ['ibm_token = "{}"', 'settings = {{ token = "{}" }}', 'bench_key = "{}"', 'url = "https://me:{}@lab"']
)
def test_a_secret_in_the_fleet_is_refused_before_settings_are_printed(tmp_path: Path, table: str) -> None:
    """--check-config printed the token somebody had written where its name belongs."""
    secret = "0f3a9c5b7e1d2f4a6b8c"
    file = tmp_path / "fleet.toml"
    file.write_text(f"[[cluster.nodes]]\nprovider = 'ibm_quantum'\n{table.format(secret)}\n")
    environ = {"JOB_SERVER_URL": "https://j.example", "TENSORAUTH_URL": "https://t.example"}
    with pytest.raises(ConfigError, match=r"cluster\.nodes\.0.*name") as raised:
        load_from(["--config", str(file)], environ, tmp_path)
    assert secret not in str(raised.value)


@pytest.mark.parametrize(("said", "widths"), [("", {}), ("max_qubits=7", {"aer_automatic": 7})])
def test_a_width_the_operator_says_is_a_limit_and_a_default_is_none(
    tmp_path: Path, said: str, widths: dict[str, int]
) -> None:
    (plan,) = open_cluster(read(f'[[cluster.nodes]]\nprovider="local_cpu"\n{said}\n'), tmp_path)
    assert plan.widths == widths
    closed([plan])


def test_two_accounts_with_one_spool_are_refused(tmp_path: Path) -> None:
    """After a restart each found and ran the other's unfinished jobs: what may run once ran twice."""
    text = "".join(
        f'[[cluster.nodes]]\nprovider="tests.providers.lab_nodes:LabMachine"\nsettings={{spool="{folder}"}}\n'
        for folder in (tmp_path / "jobs", tmp_path / "x" / ".." / "jobs")
    )
    with pytest.raises(ConfigError, match=r"cluster account 'labmachine_2': settings\.spool is that of labmachine"):
        open_cluster(read(text), tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('aws_region="mars-1"', r"aws_region: an AWS region is written like us-east-1"),
        ('devices=["Aria-1"]', r"devices: a device is named by its ARN, like arn:aws:braket:"),
    ],
)
def test_what_amazon_never_calls_so_is_refused_at_the_start(tmp_path: Path, text: str, told: str) -> None:
    """Such an account was opened, and offline for as long as the daemon ran."""
    with pytest.raises(ConfigError, match=rf"cluster\.nodes\[0\]: AWS Braket: {told}"):
        open_cluster(read(f'[[cluster.nodes]]\nprovider="aws_braket"\ns3_bucket="b"\n{text}\n'), tmp_path)
