"""Who may call, once it is known who is asking: permit, stake, lists, rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from qcompute.axon.contract import Caller, Scheme
from qcompute.axon.settings import AxonSettings, BlacklistSettings
from qcompute.chain.contract import Metagraph
from qcompute.errors import NotAllowed
from qcompute.units import Hotkey

HTTP_FORBIDDEN: Final = 403
HTTP_TOO_MANY: Final = 429
HTTP_UNAVAILABLE: Final = 503

_MAX_BUCKETS: Final = 4096
"""Buckets are made for admitted callers only, so this is far above a subnet's 256 neurons."""


class Gate:
    """Decides on verified hotkeys. Not for unverified ones: an answer here tells who is registered.

    Several processes of one miner tell each other whom they let in (`qcompute.miner.shared_rates`). Together they then
    let in no more than one would, but for what each does before it has heard: within any time, at most the rate times
    that time, and one burst for each process.
    """

    def __init__(
        self,
        axon: AxonSettings,
        blacklist: BlacklistSettings,
        metagraph: Callable[[], Metagraph | None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = blacklist
        self._metagraph = metagraph
        self._rate = axon.requests_per_second
        self._burst = float(axon.request_burst)
        self._monotonic = monotonic
        self._allowed = frozenset(blacklist.allowed_hotkeys)
        self._denied = frozenset(blacklist.denied_hotkeys)
        self._buckets: OrderedDict[Hotkey, tuple[float, float]] = OrderedDict()
        self._admitted: Counter[Hotkey] = Counter()
        self.admissions = asyncio.Event()
        """Set while `take_admitted` has something to tell."""

    def admit(self, hotkey: Hotkey, scheme: Scheme) -> Caller:
        """The caller behind a verified hotkey.

        Raises:
            NotAllowed: 403 with the rule that says no; 429 above the rate; 503 while no metagraph is known, because
                an unknown subnet must not mean an open door.
        """
        caller = Caller(hotkey, self._uid(hotkey), scheme)
        if not self._take(hotkey):
            raise NotAllowed("Too many requests; slow down", status=HTTP_TOO_MANY)
        return caller

    def take_admitted(self) -> Counter[Hotkey]:
        """How many requests of whom were let in since the last call: what other processes must count too."""
        admitted, self._admitted = self._admitted, Counter()
        self.admissions.clear()
        return admitted

    def count(self, hotkey: Hotkey, admitted_elsewhere: int) -> None:
        """Count what another process of this miner let in.

        That may be more than was left here: the validator then waits until the rate has made up for it.
        """
        self._put(hotkey, self._tokens(hotkey) - admitted_elsewhere)

    def _uid(self, hotkey: Hotkey) -> int | None:
        if hotkey in self._denied:
            raise _forbidden("denied by this miner's operator")
        metagraph = self._metagraph()
        neuron = metagraph.neurons.get(hotkey) if metagraph is not None else None
        if hotkey in self._allowed:
            return neuron.uid if neuron is not None else None
        if metagraph is None:
            raise NotAllowed("The metagraph is not known yet; try again shortly", status=HTTP_UNAVAILABLE)
        if neuron is None:
            if self._rules.allow_non_registered:
                return None
            raise _forbidden("Unrecognized hotkey")
        if self._rules.force_validator_permit and not neuron.validator_permit:
            raise _forbidden("Non-validator hotkey")
        if neuron.stake < self._rules.min_stake:
            raise _forbidden(f"Stake below {self._rules.min_stake:g}")
        return neuron.uid

    def _take(self, hotkey: Hotkey) -> bool:
        tokens = self._tokens(hotkey)
        enough = tokens >= 1.0
        if enough:
            self._admitted[hotkey] += 1
            self.admissions.set()
        self._put(hotkey, tokens - 1.0 if enough else tokens)
        return enough

    def _tokens(self, hotkey: Hotkey) -> float:
        tokens, since = self._buckets.get(hotkey, (self._burst, 0.0))
        return min(self._burst, tokens + (self._monotonic() - since) * self._rate)

    def _put(self, hotkey: Hotkey, tokens: float) -> None:
        self._buckets[hotkey] = (tokens, self._monotonic())
        self._buckets.move_to_end(hotkey)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)


def _forbidden(reason: str) -> NotAllowed:
    return NotAllowed(f"Forbidden. Key is blacklisted: {reason}.", status=HTTP_FORBIDDEN)
