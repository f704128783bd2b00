"""Stage 2: a row with a URL becomes a row with a circuit.

The download is guarded (`qcompute.circuits.download`) and the text screened before it is stored; nothing is parsed
here. A host that does not answer is asked again until the fetch deadline; a definite no ends the job.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import ClassVar, Final, Protocol

from qcompute.circuits.program import JobOptions, Language
from qcompute.errors import CannotRun, FetchFailed, FetchRefused
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.road import Road
from qcompute.miner.stage import Stage
from qcompute.protocol import is_own

_SCREEN_INLINE_BYTES: Final = 8192
"""Screening this much takes well under a millisecond; more goes to a thread so that no request waits for it."""


_OWN: Final = "data:text/plain;base64,"


def own_url(circuit: str) -> str:
    """A URL that is the circuit itself, for a job of the operator's own."""
    return _OWN + base64.b64encode(circuit.encode()).decode()


def own_circuit(url: str) -> str:
    """The circuit `own_url` was made of.

    Raises:
        FetchRefused: it is no such URL.
    """
    try:
        return base64.b64decode(url.removeprefix(_OWN), validate=True).decode()
    except ValueError as error:
        raise FetchRefused("the circuit of an operator's job cannot be read", reason="bad_url") from error


class Downloader(Protocol):
    """Fetches one circuit: `qcompute.circuits.download.GuardedDownloader`."""

    async def fetch(self, url: str) -> str:
        """The text at ``url``; raises `FetchRefused` or `FetchFailed`."""
        ...


class Screen(Protocol):
    """The lexical screen: `qcompute.circuits.screen.screen` with its settings bound."""

    def __call__(self, source: str) -> Language:
        """The language of an acceptable text; raises `CannotRun`."""
        ...


class FetchStage(Stage):
    """Downloads and screens."""

    state: ClassVar[State] = State.ACCEPTED

    def __init__(
        self, road: Road, downloader: Downloader, screen: Screen, *, concurrency: int, deadline_seconds: float
    ) -> None:
        super().__init__(road, concurrency=concurrency)
        self._downloader = downloader
        self._screen = screen
        self._deadline = timedelta(seconds=deadline_seconds)

    async def handle(self, job: Job) -> None:
        """Fetch the circuit; see `Stage.handle`."""
        try:
            JobOptions.of(job.configuration_data)
            text = await self._text(job)
            await self._screened(text)
        except (CannotRun, FetchRefused) as refusal:
            await self.road.end_without_result(job, Verdict.REFUSED, code=refusal.reason, message=refusal.message)
        except FetchFailed as failure:
            await self._again(job, failure)
        else:
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            due_at = self.road.clock()
            ready = job.but(state=State.READY, due_at=due_at, circuit_sha256=sha256, error_code=None, error=None)
            await self.road.save(job, ready, circuit=text)

    async def _text(self, job: Job) -> str:
        url = job.input_data_url or ""
        # Only for jobs that came through the operator's socket: of anybody else's URL the downloader decides.
        return own_circuit(url) if is_own(job.execution_id) else await self._downloader.fetch(url)

    async def _screened(self, text: str) -> None:
        if len(text) <= _SCREEN_INLINE_BYTES:
            self._screen(text)
        else:
            await asyncio.to_thread(self._screen, text)

    async def _again(self, job: Job, failure: FetchFailed) -> None:
        if self.road.clock() - job.received_at >= self._deadline:
            message = f"the circuit could not be downloaded: {failure.message}"
            await self.road.end_without_result(job, Verdict.FAILED, code=failure.code, message=message)
        else:
            await self.road.again(
                job, code=failure.code, message=failure.message, first_seconds=1.0, longest_seconds=30.0
            )
