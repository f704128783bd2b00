"""The page about clusters: its fleets are read, they are the same in TOML and in Python, its programs are run."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from qcompute.cluster import ClusterSettings, open_cluster
from qcompute.cluster.accounts import connected_slots, slots_of
from qcompute.cluster.builtin import BUILT_IN
from qcompute.cluster.connected import credentials_of
from qcompute.connections.definitions import FILE as CONNECTIONS
from qcompute.connections.definitions import Definition, Definitions
from qcompute.miner.providers.base import ProviderStatus
from tests.docs.pages import ROOT
from tests.docs.test_adapter_tutorial import BLOCK, run
from tests.providers.test_node_adapter import SOURCE, wait_for

PAGE: Final = ROOT / "docs" / "how-to" / "cluster.md"
BLOCKS: Final[list[tuple[str, str, str]]] = BLOCK.findall(PAGE.read_text())
FILES: Final = {title: text for _, title, text in BLOCKS if title}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files in an empty folder, its modules importable."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def fleet(folder: Path, name: str) -> ClusterSettings:
    document = tomllib.loads((folder / name).read_text())
    assert document.pop("provider") == "cluster"
    return ClusterSettings.model_validate(document.pop("cluster"))


def test_every_block_is_a_file_or_is_run() -> None:
    assert {kind for kind, title, _ in BLOCKS if not title} == {"console", "sh"}  # test_commands.py runs the latter
    fleets, programs = {"fleet.toml", "connected.toml", "python.toml", "bench.toml"}, {"my_fleet.py", "my_nodes.py"}
    assert set(FILES) == fleets | programs | {"by_hand.py"}


def test_the_fleet_is_the_same_in_toml_and_in_python(folder: Path) -> None:
    assert slots_of(fleet(folder, "fleet.toml")) == slots_of(fleet(folder, "python.toml"))


def test_a_node_has_its_account_from_a_connection(folder: Path) -> None:
    settings = {"token": "ibm_prod_token", "instance": "crn:v1:x", "devices": ["ibm_fez"]}
    Definitions(folder / CONNECTIONS).add("ibm-prod", Definition(provider="ibm", settings=settings))
    cloud, desk = connected_slots(fleet(folder, "connected.toml"), folder)
    assert (cloud.name, credentials_of(cloud)) == ("ibm-prod", {"token": "ibm_prod_token"})
    assert cloud.arguments["backends"] == ["ibm_torino"]
    assert desk.name == "local_cpu"


def test_every_command_says_what_the_page_says(folder: Path) -> None:
    commands = [text for kind, _, text in BLOCKS if kind == "console"]
    for text in commands:
        command, _, wanted = text.removeprefix("$ ").partition("\n")
        code, said = run(command, folder)
        assert code == 0, said
        pattern = r"[\s\S]*?".join(re.escape(part.strip()) for part in wanted.strip().split("..."))
        assert re.search(pattern, said), said
    assert len(commands) == 2


def test_the_own_provider_runs_a_circuit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_BENCH", "a-key")
    (plan,) = open_cluster(fleet(folder, "bench.toml"), folder / "data")
    plan.health_check()
    handle = plan.adapter.submit(SOURCE, "bench-1", 7)
    wait_for(plan.adapter, handle, ProviderStatus.COMPLETED)
    receipt = plan.adapter.get_job_receipt(handle)
    plan.adapter.close()
    assert receipt.results == {"measurementCounts": {"000": 7}}
    assert (receipt.cost, (receipt.metadata or {})["currency"]) == (0.5, "EUR")


def test_the_table_lists_every_provider_and_argument() -> None:
    table = PAGE.read_text().split("## Providers")[1].split("\n## ")[0]
    rows = {row.split("`")[1]: row for row in table.splitlines() if row.startswith("| `")}
    assert list(rows) == list(BUILT_IN)
    for key, cls in BUILT_IN.items():
        assert cls.Arguments is not None
        for argument in cls.Arguments.model_fields.keys() - {"tags"}:
            assert f"`{argument}`" in rows[key], f"{key}: {argument}"
