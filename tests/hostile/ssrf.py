"""The suite "hostile ssrf": no URL a validator sends makes this machine knock at a door inside, or anywhere but there.

Each URL goes through the downloader, and those that need no resolver of ours go through a running daemon as jobs too.
A target that is reached, a wrong reason, or a URL in an error makes a case wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from qcompute.circuits.download import GuardedDownloader
from qcompute.circuits.settings import DownloadSettings
from qcompute.errors import FetchError, FetchRefused
from qcompute.protocol import FIRST_CURSOR, ExecutionStatus
from tests.hostile.network_attacks import dendrite_headers, post, talk
from tests.hostile.network_victim import JOB, Victim, running_victim
from tests.hostile.ssrf_corpus import Url, corpus
from tests.hostile.ssrf_targets import Names, Targets, dialled, targets
from tests.reliability import Record
from tests.scene import until

LONGEST_MESSAGE: Final = 400
END_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one URL."""

    url: Url
    where: str
    told: str
    faults: list[str]


def wrong_with(url: Url, message: str, reason: str | None, reached: Sequence[str]) -> list[str]:
    """What is wrong with how a URL was refused."""
    faults: list[str] = []
    if reason != (url.reason or None):
        faults.append(f"the reason was {reason}, not {url.reason or 'none'}")
    if "SECRET" in message or not message.isprintable() or not 0 < len(message) <= LONGEST_MESSAGE:
        faults.append(f"the error said {message[:80]!r}")
    if reached:
        faults.append(f"reached {', '.join(reached)}")
    return faults


async def fetch_one(there: Targets, url: Url) -> Outcome:
    """One URL through the downloader of this process."""
    there.reached.clear()
    names = Names(url.names)
    settings = DownloadSettings(allowed_hosts=(there.redirect,), total_seconds=5, max_redirects=3)
    downloader = GuardedDownloader(settings, max_bytes=1000, resolver=names)
    message, reason = "it was fetched", None
    with dialled() as addresses:
        try:
            await downloader.fetch(there.filled(url.url))
        except FetchError as error:
            message, reason = error.message, error.reason if isinstance(error, FetchRefused) else None
        await downloader.close()
    faults = wrong_with(url, message, reason, there.reached)
    outside = [address for address in addresses if address != "127.0.0.1"]
    checked = list(url.names[0]) if url.names and not url.reason else []
    if outside != checked:
        faults.append(f"connected to {outside}")
    if names.asked > 1:
        faults.append(f"asked for the name {names.asked} times")
    return Outcome(url, "downloader", message, faults)


async def fetch_all(urls: Sequence[Url]) -> list[Outcome]:
    """All through the downloader."""
    async with targets() as there:
        return [await fetch_one(there, url) for url in urls]


async def run_jobs(urls: Sequence[Url]) -> list[Outcome]:
    """All as jobs of one running daemon, at once; what its validator and its operator are told in the end."""
    async with targets() as there:
        allowed = json.dumps([there.redirect])
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            async with running_victim(Path(folder), QCOMPUTE_DOWNLOAD__ALLOWED_HOSTS=allowed) as victim:
                for number, url in enumerate(urls):
                    await _bring(victim, f"ssrf-{number}", there.filled(url.url))
                told = await _ends(victim, len(urls))
                documents = [await _document(victim, f"ssrf-{number}") for number in range(len(urls))]
        outcomes = [
            _judged(url, document, told.get(f"ssrf-{number}", ""))
            for number, (url, document) in enumerate(zip(urls, documents, strict=True))
        ]
        if there.reached:  # which of them it was, the run through the downloader tells
            outcomes[0].faults.append(f"reached {', '.join(there.reached)}")
        return outcomes


def _judged(url: Url, document: dict[str, Any], told: str) -> Outcome:
    faults = wrong_with(url, told, document["error_code"], [])
    if document["verdict"] != "refused":
        faults.append(f"the job was {document['verdict']} in state {document['state']}")
    if "SECRET" in json.dumps(document):
        faults.append("the operator port shows the URL")
    return Outcome(url, "daemon", told, faults)


async def _bring(victim: Victim, execution_id: str, url: str) -> None:
    body = json.dumps(JOB | {"execution_id": execution_id, "input_data_url": url}).encode()
    answers = await talk(victim, [post(dendrite_headers(victim), body)])
    assert answers[0].status == 200, answers
    assert b'"success":true' in answers[0].body, answers


async def _ends(victim: Victim, count: int) -> dict[str, str]:
    """What a validator is told of each job, once all have ended."""
    told: dict[str, str] = {}
    cursor = FIRST_CURSOR

    async def all_told() -> bool:
        nonlocal cursor
        answer = await victim.serve_honest(cursor)
        cursor = answer.last_circuit or cursor
        for row in answer.finished:
            assert row.status is ExecutionStatus.FAILED, row
            told[row.execution_id] = row.errorMessage or ""
        return len(told) == count

    async def facts() -> str:
        return f"{len(told)} of {count} jobs ended; {victim.miner.last_lines(5)}"

    await until(all_told, seconds=END_SECONDS, what="all jobs told", facts=facts)
    return told


async def _document(victim: Victim, execution_id: str) -> dict[str, Any]:
    url = f"{victim.miner.operator_url}/jobs/{execution_id}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


def for_daemon() -> list[Url]:
    """The URLs whose hosts no resolver of ours has to answer for."""
    return [url for url in corpus() if not url.names]


def main() -> bool:
    """The full run: prints a table, keeps every case; whether all promises held."""
    record = Record("hostile ssrf")
    outcomes = asyncio.run(fetch_all(corpus())) + asyncio.run(run_jobs(for_daemon()))
    for one in outcomes:
        case = f"{one.where}: {one.url.what}"
        why = one.url.reason or "only the address that was checked"
        record.add(case, why if not one.faults else "; ".join(one.faults), ok=not one.faults)
        word = "ok   " if not one.faults else "WRONG"
        sys.stdout.write(f"{word} {case:<62.62} {why:<16} {one.told:.70} {'; '.join(one.faults)}\n")
    sys.stdout.write(f"{len(record.seen)} cases, {len(record.wrong)} wrong\n")
    return not record.wrong
