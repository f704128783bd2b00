"""What the documentation says is there, is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompute import errors
from qcompute.connections.credentials import PREFIX as SECRETS_PREFIX
from qcompute.errors import QComputeError
from qcompute.miner.limits import MinerSettings
from qcompute.miner.settings_load import catalogue, load_from
from qcompute.miner.settings_sources import CONFIG_VARIABLE, Catalogue
from tests.docs.pages import PAGES, ROOT, providers

DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
NAMES = [str(file.relative_to(ROOT)) for file in DOCUMENTS]

PM2 = ROOT / "ecosystem.config.js"
COMPOSE = ROOT / "docs" / "how-to" / "compose.two-machines.yaml"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
MAKE = re.compile(r"\bmake ([a-z][a-z0-9-]*)")
FLAG = re.compile(r"(?<![\w-])--[a-z]+\.[a-z_.]+")
VARIABLE = re.compile(r"\bQCOMPUTE_[A-Z0-9_]+\b")
MODULE = re.compile(r"python3? -m ((?:qcompute|tests)[a-z_.]*)")
TREE_PATH = re.compile(r"`((?:qcompute|neurons|tests|docs)/[A-Za-z0-9_./-]+)`")
TOML = re.compile(r"```toml\n(.*?)```", re.DOTALL)

documents = pytest.mark.parametrize("file", DOCUMENTS, ids=NAMES)


@pytest.mark.parametrize("file", list(PAGES), ids=[file.name for file in PAGES])
def test_a_generated_page_is_fresh(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == PAGES[file](), "run `make docs`"


@documents
def test_links_lead_somewhere(file: Path) -> None:
    for link in LINK.findall(CODE.sub("", file.read_text())):
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        found = (file.parent / target).resolve() if target else file
        assert found.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in set(_anchors(found)), f"{link}: no such heading"


@documents
def test_every_make_target_named_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in CODE.findall(file.read_text()):
        for target in MAKE.findall(code):
            assert target in targets, f"make {target}"


@pytest.mark.parametrize("file", [*DOCUMENTS, PM2, COMPOSE], ids=[*NAMES, PM2.name, COMPOSE.name])
def test_every_flag_and_variable_named_exists(file: Path) -> None:
    known = catalogue()
    text = file.read_text()
    for flag in FLAG.findall(text):
        name = flag.rstrip(".")
        assert _is_flag(name, known), name
    for variable in VARIABLE.findall(text):
        is_secret = variable.startswith(SECRETS_PREFIX)
        if not is_secret and variable not in (CONFIG_VARIABLE, "QCOMPUTE_SECTION__NAME", "QCOMPUTE_"):
            assert known.variable(variable), variable


@documents
def test_every_module_and_path_named_exists(file: Path) -> None:
    text = file.read_text()
    for module in MODULE.findall(text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for path in TREE_PATH.findall(text.replace("NAME.py", "mock.py")):
        assert (ROOT / path).exists(), path


@documents
def test_toml_examples_are_valid_settings(file: Path, tmp_path: Path) -> None:
    for number, example in enumerate(TOML.findall(file.read_text())):
        tomllib.loads(example)
        config = tmp_path / f"{number}.toml"
        config.write_text(example)
        environ = {"JOB_SERVER_URL": "https://j.example", "TENSORAUTH_URL": "https://t.example"}
        load_from(["--config", str(config)], environ, tmp_path)


def test_pm2_waits_longer_than_the_daemon_takes_to_stop() -> None:
    found = re.search(r"kill_timeout: (\d+)", PM2.read_text())
    assert found
    assert int(found[1]) >= (MinerSettings().shutdown_seconds + 10) * 1000


def test_the_readme_lists_every_provider() -> None:
    table = (ROOT / "README.md").read_text().split("## Providers")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([a-z0-9_]+)` \|", table, re.MULTILINE) == providers()


def test_every_error_is_in_the_tree_of_its_docstring() -> None:
    for error in _subclasses(QComputeError):
        if error.__module__ == errors.__name__:
            assert f"{error.__name__}" in (errors.__doc__ or ""), error


def test_error_codes_are_unique() -> None:
    codes = [error.code for error in _subclasses(QComputeError) if error.__module__ == errors.__name__]
    assert len(codes) == len(set(codes))


def _is_flag(flag: str, known: Catalogue) -> bool:
    sections = {setting.path[0] for setting in known.settings}
    return (
        known.flag(flag) is not None
        or flag.startswith(("--wandb", "--neuron.", "--logging.", "--axon.max_workers", "--section.name"))
        or flag.removeprefix("--") in sections
    )


def _anchors(file: Path) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _subclasses(error: type[QComputeError]) -> Iterator[type[QComputeError]]:
    yield error
    for below in error.__subclasses__():
        yield from _subclasses(below)
