"""Nodes of a cluster whose account a connection gives: as the connection alone has it, or refused in one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from qcompute.cluster import ClusterBuilder, ClusterSettings, open_cluster
from qcompute.cluster.accounts import connected_slots, slots_of
from qcompute.cluster.builtin import BUILT_IN
from qcompute.cluster.builtin.vendor import VendorProvider
from qcompute.cluster.connected import credentials_of
from qcompute.connections.definitions import FILE, Definition, Definitions
from qcompute.errors import ConfigError, VendorError
from qcompute.miner.providers.registry import config_of
from tests.doubles.rest import TOKEN, RestDouble

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123:4567::"
GUID = "01234567-89ab-cdef-0123-456789abcdef"


def written(folder: Path, name: str, provider: str, **more: Any) -> None:
    budget = more.pop("budget", None)
    Definitions(folder / FILE).add(name, Definition(provider=provider, settings=more, budget=budget))


def fleet(text: str) -> ClusterSettings:
    return ClusterSettings.model_validate(tomllib.loads(text)["cluster"])


def node(**words: Any) -> ClusterSettings:
    return ClusterSettings.model_validate({"nodes": [words]})


def table_of(settings: ClusterSettings, folder: Path) -> Mapping[str, Any]:
    """What the account's adapter is opened with."""
    (slot,) = connected_slots(settings, folder)
    provider = BUILT_IN[slot.provider]()
    assert isinstance(provider, VendorProvider)
    ours = cast("VendorProvider[Any]", provider)
    return ours.config(ours.arguments(slot.arguments)) | slot.settings


def checked(vendor: str, table: Mapping[str, Any]) -> dict[str, Any]:
    model = config_of(vendor)
    assert model is not None
    return model.model_validate(table).model_dump()


SINGLE = [
    ("ibm_quantum", "ibm", {"token": "prod", "instance": CRN, "max_execution_seconds": 60}),
    (
        "aws_braket",
        "braket",
        {"access_key_id": "id", "secret_access_key": "prod", "bucket": "bucket", "regions": ["eu-west-2"]},
    ),
    ("custom_rest", "rest", {"base_urls": ["http://127.0.0.1:1"], "token": "prod", "submit_seconds": 0.5}),
    ("custom_rest", "rest", {"base_urls": ["http://127.0.0.1:1"], "device_type": "QPU"}),
    (
        "azure_quantum",
        "azure",
        {
            "subscription_id": GUID,
            "resource_group": "g",
            "workspace": "work",
            "location": "eastus",
            "client_secret": "prod",
        }
        | {"tenant_id": "t", "client_id": "c", "devices": ["ionq.simulator"]},
    ),
    ("local_cpu", "aer", {"processes": 3}),
]


@pytest.mark.parametrize(("provider", "vendor", "settings"), SINGLE)
def test_the_account_is_opened_as_the_connection_alone_would_be(
    tmp_path: Path, provider: str, vendor: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defaults too: those of the node's arguments are others than the adapter's, and nobody has written them."""
    for name in ("PROD", "ID"):
        monkeypatch.setenv(f"QCOMPUTE_SECRET_{name}", "x")
    written(tmp_path, "lab-1", vendor, **settings)
    table = table_of(node(provider=provider, connection="lab-1"), tmp_path)
    assert checked(vendor, table) == checked(vendor, settings)


def test_what_the_node_says_of_the_same_thing_wins_and_the_rest_stays(tmp_path: Path) -> None:
    written(tmp_path, "lab", "ibm", token="prod", instance=CRN, devices=["ibm_torino"], max_execution_seconds=60)
    ours = node(provider="ibm_quantum", connection="lab", backends=["ibm_fez"], settings={"max_execution_seconds": 5})
    table = table_of(ours, tmp_path)
    assert (table["devices"], table["token"], table["instance"]) == (["ibm_fez"], "prod", CRN)
    assert table["max_execution_seconds"] == 5
    (slot,) = connected_slots(ours, tmp_path)
    assert credentials_of(slot) == {"token": "prod"}


def test_credential_name_budget_and_folder_come_from_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_TOKEN", TOKEN)
    with RestDouble() as double:
        written(tmp_path, "lab", "rest", base_urls=[double.url], token="lab_token", budget={"per_day": "3"})
        (plan,) = open_cluster(node(provider="custom_rest", connection="lab"), tmp_path)
        try:
            plan.health_check()
            assert (plan.name, plan.vendor, plan.budget.per_day) == ("lab", "rest", Decimal(3))
            assert [one.credentials for one in plan.nodes] == [{"api_key": "lab_token"}]
            double.token = "another"
            with pytest.raises(VendorError):
                plan.adapter.submit("circuit")
        finally:
            plan.adapter.close()
        text = """
        [[cluster.nodes]]
        provider = "custom_rest"
        connection = "lab"
        name = "forge"
        [cluster.nodes.budget]
        per_day = 1
        """
        (plan,) = open_cluster(fleet(text), tmp_path)
        plan.adapter.close()
        assert (plan.name, plan.budget.per_day) == ("forge", Decimal(1))


def test_in_python_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_TOKEN", TOKEN)
    with RestDouble() as double:
        written(tmp_path, "lab", "rest", base_urls=[double.url], token="lab_token")
        plan = ClusterBuilder().add("custom_rest", connection="lab")
        assert "[0] custom_rest (lab) — connection='lab'" in plan.describe()
        with plan.build(directory=tmp_path) as cluster:
            assert [one.node_id for one in cluster.online_nodes] == ["rest_1"]
        with pytest.raises(ConfigError, match=r"cluster account 'lab': connection: there is no connection 'lab'"):
            plan.build(directory=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            {"connection": "nobody"},
            r"^cluster\.nodes\[0\]\.connection: there is no connection 'nobody'; there are lab$",
        ),
        (
            {"connection": "lab", "provider": "ibm_quantum"},
            r"^cluster\.nodes\[0\]\.connection: lab is of the provider rest, and .* ibm_quantum need one of ibm$",
        ),
        (
            {"connection": "lab", "provider": "tests.providers.lab_nodes:LabMachine"},
            r"^cluster\.nodes\[0\]: connection: tests\S+ runs circuits itself: no connection gives its account$",
        ),
        ({"connection": "lab", "api_key": "mine"}, r"^cluster\.nodes\[0\]: api_key: connection = 'lab' gives the cred"),
        (
            {"connection": "lab", "settings": {"token": "mine"}},
            r"^cluster\.nodes\[0\]: settings\.token: connection = 'lab'",
        ),
        (
            {"connection": "lab", "settings": {"nodes": {"left": {"url": "http://127.0.0.1:1", "token": "mine"}}}},
            r"^cluster\.nodes\[0\]: settings\.nodes\.left\.token: connection = 'lab'",
        ),
        ({"connection": "lab", "endpoint": []}, r"^cluster account 'lab': .*did you mean endpoints\?$"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_setting(tmp_path: Path, words: dict[str, Any], told: str) -> None:
    written(tmp_path, "lab", "rest", base_urls=["http://127.0.0.1:1"])
    with pytest.raises(ConfigError, match=told) as refused:
        open_cluster(node(**{"provider": "custom_rest", **words}), tmp_path)
    assert "\n" not in refused.value.message


def test_a_budget_that_is_none_is_told_of_the_node_that_would_have_it(tmp_path: Path) -> None:
    written(tmp_path, "lab", "rest", base_urls=["http://127.0.0.1:1"], budget={"per_dya": 1})
    with pytest.raises(ConfigError, match=r"cluster\.nodes\[0\]\.connection: connections\.lab\.budget\.per_dya"):
        open_cluster(node(provider="custom_rest", connection="lab"), tmp_path)


def test_secrets_of_endpoints_are_found_where_they_are_nested(tmp_path: Path) -> None:
    nodes = {"left": {"url": "http://127.0.0.1:1", "token": "left_key"}, "right": {"url": "http://127.0.0.1:2"}}
    ours = node(provider="custom_rest", endpoints=["http://127.0.0.1:3"], api_key="all", settings={"nodes": nodes})
    (slot,) = connected_slots(ours, tmp_path)
    assert json.dumps(credentials_of(slot), sort_keys=True) == json.dumps(
        {"nodes.left.token": "left_key", "token": "all"}
    )


def test_two_accounts_do_not_have_a_connection_s_budget_each(tmp_path: Path) -> None:
    """Together they could spend twice what was allowed; with budgets of their own it is written what they may."""
    written(tmp_path, "lab", "rest", base_urls=["http://127.0.0.1:1"], budget={"per_day": "3"})
    words: dict[str, Any] = {"provider": "custom_rest", "connection": "lab"}
    twice = ClusterSettings.model_validate({"nodes": [words, words]})
    refusal = r"^cluster\.nodes\[1\]\.connection: the budget of lab is that of lab already: write a budget here$"
    with pytest.raises(ConfigError, match=refusal):
        connected_slots(twice, tmp_path)
    parted = ClusterSettings.model_validate({"nodes": [words, words | {"budget": {"per_day": 1}}]})
    assert [one.budget.per_day for one in connected_slots(parted, tmp_path)] == [Decimal(3), Decimal(1)]


def test_a_setting_the_vendor_does_not_take_is_told_with_its_account() -> None:
    """`connections list` said what is wrong with an instance, and of two accounts not which one has it."""
    (slot,) = slots_of(node(provider="ibm_quantum", name="lab", ibm_token="prod"))
    with pytest.raises(ConfigError, match=r"^cluster account 'lab': instance = .* is of IBM's old platform"):
        credentials_of(slot)
