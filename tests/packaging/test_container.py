"""The Dockerfile and what goes into the image; no container is run here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import pytest
import yaml
from compose_spec import PyOptions

from qcompute import __version__
from tests.docs.pages import ROOT
from tests.docs.test_compose import FILE as COMPOSE

DOCKERFILE: Final = ROOT / "Dockerfile"
TEXT: Final = DOCKERFILE.read_text()
HADOLINT: Final = Path(sys.executable).with_name("hadolint")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lines(word: str) -> list[str]:
    """The rest of each instruction of that name, its continuation lines joined."""
    return re.findall(rf"^{word} (.*)$", TEXT.replace("\\\n", ""), re.MULTILINE)


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    command = [HADOLINT, "--no-color", "--failure-threshold", "style", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    worse = tmp_path / "Dockerfile"
    worse.write_text(re.sub(r"^(FROM python):\S+", r"\1:latest", TEXT, flags=re.MULTILINE))
    assert "DL3007" in hadolint(worse).stdout, "or it would find nothing"


def test_the_image_is_small_fixed_and_nobody_s_root() -> None:
    bases = {line.split()[0] for line in lines("FROM")}
    (base,) = bases
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    assert lines("USER") == ["10001:10001"]
    assert TEXT.index("USER 10001") < TEXT.index("ENTRYPOINT")
    assert not re.search(r"(?i)secret|password|token|_KEY", TEXT.replace("no secret is needed", ""))


def test_the_image_has_the_uv_and_extras_of_the_project() -> None:
    (version,) = re.findall(r"^ARG UV_VERSION=(.*)$", TEXT, re.MULTILINE)
    extras = PROJECT["project"]["optional-dependencies"]
    assert f"uv=={version}" in extras["dev"]
    (chosen,) = re.findall(r'^ARG EXTRAS="(.*)"$', TEXT, re.MULTILINE)
    assert set(chosen.split()) <= set(extras) - {"dev"}
    (entry,) = lines("ENTRYPOINT")
    assert json.loads(entry)[0] in PROJECT["project"]["scripts"]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {Path(name).name for line in lines("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert copied == let_in
    for name in copied:
        assert (ROOT / name).exists(), name
    needed = {*PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], PROJECT["project"]["readme"]}
    assert needed | {"LICENSE", "uv.lock", "pyproject.toml"} == copied


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_the_axon(status: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Axon(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing: the test's output is its own."""
            del code, size

    (check,) = [line.split("CMD ", 1)[1] for line in lines("HEALTHCHECK")]
    _, *arguments = json.loads(check)
    with HTTPServer(("127.0.0.1", 0), Axon) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("QCOMPUTE_AXON__PORT", str(server.server_port))
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)  # noqa: S603 - our own
    assert done.returncode == code


def test_the_compose_file_is_one_and_uses_the_image() -> None:
    options = PyOptions(apply_merge=True)
    options.from_yaml(COMPOSE.read_text())
    with pytest.raises(ValueError, match="restrat"):
        options.from_yaml(COMPOSE.read_text().replace("restart:", "restrat:"))
    miner = yaml.safe_load(COMPOSE.read_text())["services"]["miner-a"]
    assert miner["image"] == f"qcompute:{__version__}"
    assert (COMPOSE.parent / miner["build"]["context"]).resolve() == ROOT
    assert miner["read_only"] is True
