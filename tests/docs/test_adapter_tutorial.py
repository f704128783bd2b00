"""Every block of the integrator's tutorial is run, in order, in an empty folder, and says what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "tutorial" / "your-own-adapter.md"
BLOCK: Final = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
REQUIRED: Final = {"JOB_SERVER_URL": "https://j.example", "TENSORAUTH_URL": "https://t.example"}


def test_every_block_runs_and_says_what_the_page_says(tmp_path: Path) -> None:
    ran = 0
    for kind, title, text in BLOCK.findall(PAGE.read_text()):
        if kind == "python":
            assert title, "a program needs a file name to be run"
            (tmp_path / title).write_text(text)
        elif not text.startswith("# not run by the tests:"):
            assert kind == "console", f"a block of {kind} is not run"
            command, _, wanted = text.removeprefix("$ ").partition("\n")
            code, said = run(command, tmp_path)
            assert (code != 0) == ("FAILED" in wanted), f"{command}\nended with {code}:\n{said}"
            pattern = r"[\s\S]*?".join(re.escape(part.strip()) for part in wanted.strip().split("..."))
            assert re.search(pattern, said), f"{command}\nsaid:\n{said}"
            ran += 1
    assert ran >= 4


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a line of the page; ``python`` is this one, repository and folder on its path."""
    words = shlex.split(command)
    variables: dict[str, str] = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words.pop(0) == "python"
    done = subprocess.run(  # noqa: S603 - our own page
        [sys.executable, *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"} | REQUIRED | variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
