"""Keeps the metagraph fresh and our address published, through every outage of the chain.

A chain that cannot be reached changes nothing for validators we know: the last metagraph stays, also over a restart.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from qcompute.chain.contract import AxonEndpoint, Chain, Metagraph, Neuron
from qcompute.errors import ConfigError, Rejected, Unavailable
from qcompute.units import Hotkey, utc_now

_log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS: Final = 5.0
LONGEST_RETRY_SECONDS: Final = 300.0
_EXTRA: Final = {"action": "metagraph"}


class MetagraphWatch:
    """The last metagraph seen. ``cache_file`` carries it over restarts; ``refresh_seconds`` is the usual interval."""

    def __init__(
        self,
        chain: Chain,
        *,
        refresh_seconds: float,
        cache_file: Path | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._chain = chain
        self._refresh_seconds = refresh_seconds
        self._cache_file = cache_file
        self._clock = clock
        self._current: Metagraph | None = None
        self._failures = 0
        self._changed = asyncio.Event()

    @property
    def current(self) -> Metagraph | None:
        """The last one; None until one was ever read."""
        return self._current

    @property
    def age_seconds(self) -> float | None:
        """How old it is."""
        return None if self._current is None else (self._clock() - self._current.fetched_at).total_seconds()

    @property
    def is_failing(self) -> bool:
        """Whether the last refresh failed."""
        return self._failures > 0

    async def wait_until_known(self) -> Metagraph:
        """The first metagraph, as soon as there is one."""
        while self._current is None:
            await self._changed.wait()
        return self._current

    async def refresh(self) -> bool:
        """Read it now; False, with the last one kept, when the chain cannot be read."""
        try:
            metagraph = await self._chain.metagraph()
        except (Unavailable, ConfigError) as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("%s; %s", error, self._what_we_do(), extra={"action": "metagraph"})
            return False
        if self._failures:
            _log.info("the chain answers again", extra={"action": "metagraph"})
        self._failures = 0
        self._take(metagraph)
        await asyncio.to_thread(self._write_cache, metagraph)
        return True

    async def prime(self, limit_seconds: float) -> None:
        """Have a metagraph before anyone is served, from the last run or from a chain that answers in time."""
        await self._load_cache()
        if self._current is None:
            try:
                async with asyncio.timeout(limit_seconds):
                    await self.refresh()
            except TimeoutError:
                _log.info("the chain takes its time; callers are answered 503 until it answers", extra=_EXTRA)

    async def run(self) -> None:
        """Refresh on a timer until cancelled."""
        await self._load_cache()
        while True:
            fresh = await self.refresh()
            await asyncio.sleep(self._pause_seconds(fresh=fresh))

    def _pause_seconds(self, *, fresh: bool) -> float:
        if fresh:
            return self._refresh_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - spreading load
        pause = FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 16)
        return min(pause, LONGEST_RETRY_SECONDS, max(self._refresh_seconds, FIRST_RETRY_SECONDS))

    def _take(self, metagraph: Metagraph) -> None:
        if self._current is None:
            _log.info(
                "metagraph of block %d: %d neurons",
                metagraph.block,
                len(metagraph.neurons),
                extra={"action": "metagraph"},
            )
        self._current = metagraph
        self._changed.set()

    def _what_we_do(self) -> str:
        if self._current is None:
            return "no metagraph is known yet: every caller is answered 503 until one is"
        return f"serving on with the metagraph of block {self._current.block}"

    async def _load_cache(self) -> None:
        if self._cache_file is None or self._current is not None:
            return
        metagraph = await asyncio.to_thread(_read_cache, self._cache_file)
        if metagraph is not None and self._current is None:
            _log.info(
                "starting with the metagraph of block %d kept from the last run",
                metagraph.block,
                extra={"action": "metagraph"},
            )
            self._current = metagraph
            self._changed.set()

    def _write_cache(self, metagraph: Metagraph) -> None:
        if self._cache_file is None:
            return
        document = {
            "netuid": metagraph.netuid,
            "block": metagraph.block,
            "fetched_at": metagraph.fetched_at.isoformat(),
            "neurons": [asdict(neuron) for neuron in metagraph.neurons.values()],
        }
        partial = self._cache_file.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(document), encoding="utf-8")
            partial.replace(self._cache_file)
        except OSError as error:
            _log.warning("the metagraph could not be kept: %s", error.strerror, extra={"action": "metagraph"})


def _read_cache(file: Path) -> Metagraph | None:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        neurons = [Neuron(**entry) for entry in document["neurons"]]
        fetched_at = datetime.fromisoformat(document["fetched_at"])
        by_hotkey = {Hotkey(neuron.hotkey): neuron for neuron in neurons}
        return Metagraph(int(document["netuid"]), int(document["block"]), fetched_at, by_hotkey)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no cache, or one of another version: the chain will tell


class AxonPublisher:
    """Publishes where we serve: once, and again only when it changed. ``endpoint`` None: nothing to publish."""

    def __init__(self, chain: Chain, watch: MetagraphWatch, hotkey: Hotkey, endpoint: AxonEndpoint | None) -> None:
        self._chain = chain
        self._watch = watch
        self._hotkey = hotkey
        self._endpoint = endpoint

    async def run(self) -> None:
        """Publish, trying again with growing pauses, then wait for ever."""
        if self._endpoint is not None:
            await self._publish(self._endpoint)
        await asyncio.Event().wait()

    async def _publish(self, endpoint: AxonEndpoint) -> None:
        failures = 0
        while True:
            metagraph = await self._watch.wait_until_known()
            ours = metagraph.neurons.get(self._hotkey)
            if ours is not None and ours.axon == f"{endpoint.ip}:{endpoint.port}":
                _log.info("the chain has our axon already: %s", ours.axon, extra={"action": "publish"})
                return
            try:
                await self._publish_once(endpoint, registered=ours is not None)
            except (Unavailable, Rejected) as error:
                failures += 1
                log = _log.warning if failures == 1 else _log.debug
                log("the axon is not published yet: %s", error, extra={"action": "publish"})
                await asyncio.sleep(min(FIRST_RETRY_SECONDS * 2 ** min(failures, 16), LONGEST_RETRY_SECONDS))
            else:
                _log.info("published axon %s:%d", endpoint.ip, endpoint.port, extra={"action": "publish"})
                return

    async def _publish_once(self, endpoint: AxonEndpoint, *, registered: bool) -> None:
        if not registered:
            raise Rejected("this hotkey is not registered on the subnet; run `btcli subnet register`")
        await self._chain.publish_axon(endpoint)
