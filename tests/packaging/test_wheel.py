"""The wheel alone, in an environment that has nothing of the checkout: commands, data files, and the demo's jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qcompute import __version__
from tests.docs.pages import ROOT
from tests.test_house_rules import HEAVY

UV: Final = Path(sys.executable).with_name("uv")
EXTRA: Final = "postgres"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True, slots=True)
class Installed:
    """A built wheel, and an environment with it and one extra."""

    wheel: Path
    venv: Path
    elsewhere: Path

    def run(self, *command: str, seconds: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, far from the checkout."""
        environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(  # noqa: S603 - our own programs
            [str(self.venv / "bin" / command[0]), *command[1:]],
            cwd=self.elsewhere,
            env=environment | {"HOME": str(self.elsewhere), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def uv(*arguments: str, **environment: str) -> str:
    """Offline: whatever is needed was brought by `make install`."""
    done = subprocess.run(  # noqa: S603 - our own program
        [str(UV), "--offline", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The lock's packages for users with one extra, then the wheel and nothing else of ours."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--out-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    venv, elsewhere = folder / "venv", folder / "elsewhere"
    elsewhere.mkdir()
    uv("venv", "--quiet", "--python", sys.executable, str(venv))
    at_venv = {"UV_PROJECT_ENVIRONMENT": str(venv)}
    uv("sync", "--quiet", "--frozen", "--no-install-project", f"--extra={EXTRA}", **at_venv)
    uv("pip", "install", "--quiet", "--no-deps", "--python", str(venv), str(wheel))
    return Installed(wheel, venv, elsewhere)


def test_the_wheel_has_every_file_of_the_packages(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
    files = [file for package in ("qcompute", "neurons") for file in (ROOT / package).rglob("*") if file.is_file()]
    expected = {file.relative_to(ROOT).as_posix() for file in files if file.parent.name != "__pycache__"}
    assert expected - names == set()
    assert "qcompute/py.typed" in names
    assert any(re.fullmatch(r"qcompute/ledger/migrations/versions/\w+\.py", name) for name in names)
    beside = {name for name in names if not name.startswith(("qcompute/", "neurons/"))}
    assert {name.split("/")[0] for name in beside} == {f"qcompute-{__version__}.dist-info"}


def test_what_the_wheel_requires_is_there(installed: Installed) -> None:
    """What pip would install is what the metadata names: the lock's packages must be all of it."""
    uv("pip", "check", "--python", str(installed.venv))
    (packages,) = installed.venv.glob("lib/python3*/site-packages")
    there: dict[str, Distribution] = {
        canonicalize_name(package.name): package for package in distributions(path=[str(packages)])
    }
    required = [Requirement(text) for text in there["qcompute"].requires or ()]
    wanted = [need for need in required if need.marker is None or need.marker.evaluate({"extra": EXTRA})]
    missing = [
        str(need)
        for need in wanted
        if (found := there.get(canonicalize_name(need.name))) is None or found.version not in need.specifier
    ]
    assert missing == []
    assert len(wanted) == len(PROJECT["dependencies"]) + len(PROJECT["optional-dependencies"][EXTRA])


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - {"dev"}))
def test_the_lock_has_each_extra(extra: str) -> None:
    exported = uv("export", "--quiet", "--frozen", "--no-emit-project", "--no-hashes", f"--extra={extra}")
    named = {line.split("==")[0].strip() for line in exported.splitlines() if "==" in line}
    for requirement in PROJECT["optional-dependencies"][extra]:
        assert re.split(r"[\[<>=!;]", requirement)[0] in named, requirement


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["qcompute", "--help"], "ledger"),
        (["qcompute-miner", "--help"], "--check-config"),
        (["qcompute-miner", "--version"], f"qcompute {__version__}"),
        (["python", "-m", "qcompute.receipts", "--help"], "verify"),
    ],
    ids=["qcompute", "miner", "version", "receipts"],
)
def test_the_commands_are_there(installed: Installed, command: Sequence[str], says: str) -> None:
    done = installed.run(*command)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_the_commands_load_nothing_heavy(installed: Installed) -> None:
    code = f"import sys, neurons.miner, qcompute.console.__main__ as c; print([m for m in {HEAVY!r} if m in sys.modules], c.__file__)"  # noqa: E501
    done = installed.run("python", "-c", code)
    heavy, file = done.stdout.split()
    assert (heavy, Path(file).is_relative_to(installed.venv)) == ("[]", True), done.stderr


def test_the_demo_s_jobs_run_from_the_wheel(installed: Installed) -> None:
    """Platform, validator and the real daemon, with its sandboxed parser: all of it from the wheel.

    With the mock provider the demo could not end well: it sent that provider circuits for Aer's devices.
    """
    done = installed.run("python", "-m", "qcompute.local.demo", "--provider", "mock")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all jobs came out as they must" in done.stdout
    assert str(ROOT) not in done.stdout
