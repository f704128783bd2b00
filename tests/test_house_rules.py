"""House rules that a tool does not check: names, sizes, who may look where. Each failure says what to do."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
OURS: Final = sorted(p for package in ("qcompute", "neurons") for p in (ROOT / package).rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))

MAX_LINES: Final = 600

MEANINGLESS: Final = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "data", "base_utils"}

READS_ENVIRONMENT: Final = {
    "qcompute/miner/settings_cli.py": "the one place settings are read",
    "qcompute/connections/credentials.py": "secrets are in no setting but read by name, when a provider is opened",
    "qcompute/local/miner_process.py": "starts the daemon as an operator would, with little of its own environment",
    "qcompute/console/__main__.py": "the operator's command takes the daemon's settings from the same sources",
    "qcompute/miner/notify.py": "what systemd says to a process it starts, gone before any child is; no setting",
    "qcompute/local/demo.py": "NO_COLOR, a wish of the terminal and not a setting of the daemon",
}

CATCHES_BROADLY: Final = {
    "qcompute/connections/checks.py": "an adapter may raise anything; what it raised is what was found",
    "qcompute/connections/os_keyring.py": "a keyring's backend is a plug-in of the system and may raise anything",
    "qcompute/miner/duty.py": "a side task that dies takes the daemon down, whatever killed it",
    "qcompute/miner/stage.py": "a bug met in one job must not stop the others",
    "qcompute/miner/submit.py": "an adapter may raise anything: it may be paid",
    "qcompute/miner/pack.py": "hands what a submit met to the tasks that handle the rows",
    "qcompute/miner/runner.py": "an adapter may raise anything: the vendor still has the result",
    "qcompute/miner/circuit_cache.py": "hands what the parser met to the tasks whose texts these were",
    "qcompute/miner/account.py": "carries what an adapter raised from its thread to the caller",
    "qcompute/miner/heartbeat.py": "an adapter may raise anything: we then say Offline",
    "qcompute/miner/providers/registry.py": "one adapter that cannot be imported must not hide the others",
    "qcompute/ledger/worker.py": "hands what the writer's thread met to the callers whose writes these were",
    "qcompute/ledger/postgres_claims.py": "hands what the claims' thread met to whoever asked it",
    "qcompute/cluster/health.py": "an operator's health check may raise anything: its nodes are then offline",
    "qcompute/cluster/own_code.py": "an operator's module may raise anything: the operator is told where",
    "qcompute/cluster/registry.py": "an operator's module may raise anything: no provider comes of it",
    "qcompute/cluster/node_child.py": "an operator's execute may raise anything; only its type may leave the child",
    "qcompute/circuits/sandbox_child.py": "a parser may raise anything; only a code may leave the child",
}
"""Where a handler may catch everything without raising it again, and why. A new place needs a reason here."""

HEAVY: Final = (
    "qiskit",
    "qiskit_addon_cutting",
    "qiskit_aer",
    "qiskit_ibm_runtime",
    "openqasm3",
    "numpy",
    "bittensor",
    "boto3",
    "botocore",
    "braket",
    "azure",
    "torch",
    "psycopg",
    "dask",
    "distributed",
)


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", [*OURS, *TESTS], ids=name_of)
def test_a_module_is_named_for_what_it_is_about(file: Path) -> None:
    assert file.stem.removeprefix("test_") not in MEANINGLESS
    assert file.parent.name not in MEANINGLESS


def test_modules_are_small() -> None:
    long = {name_of(f): n for f in (*OURS, *TESTS) if (n := _lines(f)) > MAX_LINES}
    assert long == {}, "split it: a second noun means a second file"


def test_only_the_settings_read_the_environment() -> None:
    found = {name_of(f) for f in OURS if any(_environment_reads(tree_of(f)))}
    assert found <= set(READS_ENVIRONMENT), "make it a setting and pass it down"


def test_make_test_runs_every_test() -> None:
    listed = re.findall(r"^(?:TOGETHER|ALONE) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    ran = {ROOT / path for line in listed for path in line.split()}
    missed = [name_of(f) for f in TESTS if f.name.startswith("test_") and not ran & {f, *f.parents}]
    assert missed == []


def test_only_named_places_catch_everything() -> None:
    found = {name_of(f) for f in OURS if any(_swallowing_handlers(tree_of(f)))}
    found -= {name for name in found if name.startswith("qcompute/testing/")}
    assert found <= set(CATCHES_BROADLY), "catch what can really happen there, or add the place with its reason"


def test_only_the_chain_package_imports_bittensor() -> None:
    found = {name_of(f) for f in OURS for module in _imports(tree_of(f)) if module.split(".")[0] == "bittensor"}
    assert all(name.startswith("qcompute/chain/") for name in found), found


def test_runtime_facts_are_not_asserted() -> None:
    found = [
        f"{name_of(f)}:{node.lineno}" for f in OURS for node in ast.walk(tree_of(f)) if isinstance(node, ast.Assert)
    ]
    found = [place for place in found if not place.startswith("qcompute/testing/")]
    assert found == [], "asserts are gone under -O: raise Bug"


def test_nothing_reads_settings_or_the_environment_at_import() -> None:
    """A settings object at import cannot be tested and reads the wrong environment."""
    found = {name_of(f) for f in OURS if any(_environment_reads(_outside_functions(tree_of(f))))}
    assert found == set()


def test_every_module_of_the_miner_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    named = {module.strip() for layer in layers for module in layer.split(":")}
    modules = {f"qcompute.miner.{f.stem}" for f in (ROOT / "qcompute" / "miner").glob("*.py")} - {
        "qcompute.miner.__init__"
    }
    assert modules - named == set(), "give it a layer in pyproject.toml"


def test_every_package_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    named = {module.strip() for layer in layers for module in layer.split(":")}
    top = {
        f"qcompute.{p.stem}" for p in (ROOT / "qcompute").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert top - named - {"qcompute.__init__", "qcompute.miner", "qcompute.connections"} == set(), (
        "give it a layer in pyproject.toml"
    )


@pytest.mark.parametrize(
    ("module", "may"),
    [
        ("neurons.miner", ()),
        ("qcompute.receipts.document", ()),
        ("qcompute.miner.providers.registry", ()),
        ("qcompute.miner.app", ("bittensor", "numpy")),
    ],
)
def test_the_daemon_s_process_imports_nothing_heavy(module: str, may: tuple[str, ...]) -> None:
    """They cost seconds and hundreds of megabytes, and crash in threads: children alone load them."""
    assert _loaded_with(module, [name for name in HEAVY if name not in may]) == ""


@pytest.mark.parametrize("module", ["qcompute.miner.settings_load", "qcompute.cluster"])
def test_settings_load_neither_a_database_nor_a_cluster(module: str) -> None:
    """Every command reads them first, and half of its CPU time went into what it then did not use."""
    assert _loaded_with(module, ["sqlalchemy", "qcompute.cluster.builder", "aiohttp"]) == ""


@pytest.mark.parametrize("group", ["config", "connections", "init", "providers"])
def test_commands_that_need_no_database_load_none(group: str) -> None:
    """More than a quarter of what `init` and `connections` took to start was SQLAlchemy, for a ledger neither needs."""
    assert _loaded_with(f"qcompute.console.commands.{group}", ["sqlalchemy", "alembic"]) == ""


def _loaded_with(module: str, unwanted: Sequence[str]) -> str:
    """Those of ``unwanted`` that a new process loads when it imports ``module``."""
    code = f"import sys, {module}; print(*[m for m in {unwanted!r} if m in sys.modules])"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _environment_reads(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv" | "environb"):
                yield node
            case ast.ImportFrom(module="os", names=names) if {a.name for a in names} & {"environ", "getenv"}:
                yield node
            case _:
                pass


def _swallowing_handlers(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _raises_again(node):
            yield node


def _is_broad(caught: ast.expr | None) -> bool:
    match caught:
        case None | ast.Name(id="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=elements):
            return any(_is_broad(element) for element in elements)
        case _:
            return False


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case _:
                pass


def _outside_functions(tree: ast.Module) -> ast.Module:
    """The tree without the bodies of its functions."""

    class Stripper(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
            del node
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST | None:
            del node
            return None

    stripped = Stripper().visit(tree)
    return stripped if isinstance(stripped, ast.Module) else tree
