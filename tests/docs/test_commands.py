"""Every command of README, tutorials and how-tos is run, against one daemon, as a reader would run it.

What is put in for the reader: the ports, ids and folders of this run (`as_here`). The daemon itself is started with
``--check-config``: the reader's chain and platform are not here. What stands in no ``sh`` block that is run says why.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from qcompute.local.demo_jobs import BELL
from qcompute.miner.job import State
from tests.docs.commands import LABELS, PAGES, Block, Reason, blocks
from tests.docs.pages import ROOT
from tests.scene import Scene, running_scene

MOCK: Final = "QCOMPUTE_PROVIDERS__MOCK__"
HELD: Final = 4
BLIND: Final = {f"{MOCK}LOSE_SUBMIT_ANSWERS": str(HELD), f"{MOCK}IDEMPOTENCY": "none"}
"""The first submits' answers are lost, and the vendor cannot look a job up: these jobs are held."""

START: Final = ".venv/bin/python neurons/miner.py"
DECIDES: Final = re.compile(r"qcompute jobs (adopt|release|fail) EXECUTION_ID")
BLOCKS: Final = [block for page in PAGES for block in blocks(page)]
RUN: Final = [block for block in BLOCKS if block.label == "sh" and block.reason is None]


def test_every_fence_says_what_is_in_it() -> None:
    assert [block.name for block in BLOCKS if block.label not in LABELS] == []


def test_what_is_not_run_says_why_in_words_that_are_known() -> None:
    said = {block.name: block.reason for block in BLOCKS if block.reason is not None}
    known = set(Reason)
    assert {name: reason for name, reason in said.items() if reason not in known} == {}
    assert set(said.values()) == known, "a reason that nothing needs any more"


def test_no_command_hides_in_another_fence() -> None:
    command = re.compile(r"^(qcompute|make|pip|python|\.venv/\S+|curl|pm2|docker|systemctl) ", re.MULTILINE)
    hidden = [block.name for block in BLOCKS if block.label in {"text", "ini"} and command.search(block.text)]
    assert hidden == ["CONTRIBUTING.md:3"], "a list of targets, which test_docs.py looks up"


class Reader:
    """Somebody at a scratch checkout beside a running daemon."""

    def __init__(self, scene: Scene, folder: Path, held: list[str], done: str) -> None:
        self._scene = scene
        self._folder = folder
        self._held = iter(held)
        self._first = held[0]
        self._done = done

    async def run(self, page: Path) -> int:
        """Run the blocks of a page in order, each in a shell of its own; returns how many commands there were."""
        ran = 0
        for block in blocks(page):
            self._keep(block)
            if block.label == "sh" and block.reason is None:
                await self._run(block)
                ran += 1
        return ran

    def _keep(self, block: Block) -> None:
        """A file that the page shows is there when a command names it."""
        if block.label == "toml":
            named = re.search(r"(\w+\.toml)", block.title or block.text.partition("\n")[0])
            (self._folder / (named[1] if named else "miner.toml")).write_text(block.text)

    async def _run(self, block: Block) -> None:
        script = "\n".join(self.as_here(line) for line in block.text.replace("\\\n", " ").splitlines())
        process = await asyncio.create_subprocess_exec(
            *("bash", "-eu", "-o", "pipefail", "-c", script),
            cwd=self._folder,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(100):
            output, _ = await process.communicate()
        assert process.returncode == 0, f"{block.name}\n{script}\n{output.decode()}"

    def as_here(self, line: str) -> str:
        """The line with this run's ports, ids and folders."""
        miner = self._scene.miner
        if START in line:
            line = line.replace(" …", "").partition("  #")[0] + " --check-config"
        if DECIDES.search(line):
            line = line.replace("EXECUTION_ID", next(self._held)).replace(
                "PROVIDER_JOB_ID", self._scene.vendor_submits()[0][1]
            )
        shown = self._done if "receipts" in line else self._first
        for said, meant in {
            "http://127.0.0.1:8091": f"http://127.0.0.1:{miner.axon_port}",
            "http://127.0.0.1:8092": miner.operator_url,
            "EXECUTION_ID": shown,
            "verify FILE": "verify receipt.json",
            "ledger-2026-11-21": f"ledger-{date.today().isoformat()}",  # noqa: DTZ011 - as `date +%F` has it
            "/backup/": f"{self._folder}/backup/",
            "/etc/qcompute": f"{self._folder}/etc",
            "make ": "make --dry-run ",
            "curl -s ": "curl --fail --silent --show-error ",
        }.items():
            line = line.replace(said, meant)
        return line

    def _environment(self) -> dict[str, str]:
        miner = self._scene.miner
        path = f"{self._folder}/.venv/bin:{os.environ['PATH']}"
        return miner.full_environment() | {
            "PATH": path,
            "HOME": str(self._folder),
            "QCOMPUTE_NEURON__FULL_PATH": str(miner.folder / "data"),
            "QCOMPUTE_WALLET__PATH": str(miner.folder / "wallets"),
            "QCOMPUTE_SECRET_IBM_LAB": "a-key",
        }


@asynccontextmanager
async def reader_at_a_miner(folder: Path) -> AsyncGenerator[Reader]:
    """A scratch checkout, and a daemon with one finished job and some that are held."""
    checkout = folder / "checkout"
    for name in ("backup", "etc"):
        (checkout / name).mkdir(parents=True)
    for name in (".venv", "Makefile", "pyproject.toml", "uv.lock", "neurons", "qcompute", "tests"):
        (checkout / name).symlink_to(ROOT / name)
    async with running_scene(folder, environment=BLIND) as scene:
        held = scene.add_jobs(HELD)
        await scene.hand_over(HELD)
        await scene.until_in(State.HELD, HELD)
        (done,) = scene.add_jobs(1)
        await scene.hand_over(1)
        await scene.until_in(State.CLOSED, 1)
        (checkout / "bell.qasm").write_text(BELL)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{scene.miner.operator_url}/receipts/{done}") as told,
        ):
            (checkout / "receipt.json").write_text(await told.text())
        yield Reader(scene, checkout, [str(job) for job in held], str(done))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Reader]:
    """One for all pages."""
    async with reader_at_a_miner(tmp_path_factory.mktemp("reader")) as there:
        yield there


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("page", sorted({block.page for block in RUN}), ids=lambda page: page.stem)
async def test_every_command_of_a_page_works(reader: Reader, page: Path) -> None:
    assert await reader.run(page) == sum(block.page == page for block in RUN)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.label == "sh"], ids=lambda block: block.name)
def test_a_command_is_a_shell_s(block: Block) -> None:
    """Those that are not run are at least words; a `…` stands for flags of the reader's."""
    for line in block.text.replace("\\\n", " ").splitlines():
        assert shlex.split(line, comments=True) or not line or line.startswith("#"), line
