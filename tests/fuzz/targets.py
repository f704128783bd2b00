"""What is fuzzed: each target takes any bytes, and raises only when a promise is broken.

A refusal of the documented kind is the right answer to bad input and is swallowed; every other exception is a find.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson

from qcompute.axon.contract import Reply
from qcompute.axon.dendrite import check_fresh, dendrite_document, read_headers, reply_headers, verify
from qcompute.axon.endpoint import parse_synapse
from qcompute.circuits.cost import check_cost
from qcompute.circuits.program import Language
from qcompute.circuits.screen import screen, without_comments
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun, NotAllowed
from qcompute.ledger.cursor import read_cursor
from qcompute.protocol import CircuitSynapse
from qcompute.units import Hotkey

Target = Callable[[bytes], None]

OUR_HOTKEY: Final = Hotkey("5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UHjJM694ty")
_LIMITS: Final = CircuitSettings()
_SECONDS_PER_BYTE: Final = 1e-5
_SECONDS_AT_LEAST: Final = 2.0
"""Generous: linear work stays below it on a busy machine, quadratic work on a large input does not."""
_MAX_REFUSAL: Final = 300
_NOW_NS: Final = 1_790_000_000_000_000_000


def circuit_screen(data: bytes) -> None:
    """Any text is screened or refused, in linear time; what passes has a cost within the limits or is refused."""
    text = data.decode("utf-8", "surrogateescape")
    began = time.process_time()
    try:
        if without_comments(text).count("\n") != text.count("\n"):
            raise AssertionError("the lines of a text have other numbers without its comments")
        _costs(text, screen(text, _LIMITS))
    except CannotRun as refusal:
        _check_refusal(refusal.message)
    spent = time.process_time() - began
    if spent > _SECONDS_AT_LEAST + len(data) * _SECONDS_PER_BYTE:
        raise AssertionError(f"{spent:.1f} s for {len(data)} bytes")


def _costs(text: str, language: Language) -> None:
    """The plain reader's estimate. Loops go through the reference's parser, which runs in the sandbox alone."""
    if language is Language.OPENQASM_2:
        cost = check_cost(text, language, _LIMITS)
        if not 0 <= cost <= _LIMITS.max_ops:
            raise AssertionError(f"a cost of {cost}")


def axon_request(data: bytes) -> None:
    """Any headers and body are read or refused. The first empty line parts them, as in HTTP."""
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(b":") for line in head.split(b"\n")]
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    synapse = _synapse(body)
    try:
        request = read_headers(headers)
        check_fresh(request.nonce_ns, _NOW_NS, past_seconds=4.0, ahead_seconds=4.0)
        verify(request, OUR_HOTKEY, _anybody)
    except NotAllowed as refusal:
        _check_refusal(refusal.message)
        return
    if synapse is not None:
        for name, value in reply_headers(request, OUR_HOTKEY, synapse, 0.001):
            if b"\n" in name + value or b"\r" in name + value:
                raise AssertionError(f"a line end in the header {name!r}")
        reply = Reply(success=True, last_circuit=synapse.last_circuit)
        orjson.dumps(dendrite_document(request, OUR_HOTKEY, synapse, reply, 0.001))


def _anybody(_message: bytes, _signature: bytes, _hotkey: Hotkey) -> bool:
    return True


def _synapse(body: bytes) -> CircuitSynapse | None:
    try:
        return parse_synapse(body)
    except NotAllowed as refusal:
        _check_refusal(refusal.message)
        return None


def cursor(data: bytes) -> None:
    """Any text is a place in the order, never an error; the place is one the ledger's numbers can hold."""
    place = read_cursor(data.decode("utf-8", "surrogateescape"), "0a1b2c3d", 1_790_000_000_000_000)
    if not (0 <= place.seq < 1 << 63 and -(1 << 63) <= place.micros < 1 << 63):
        raise AssertionError(f"a place no database holds: {place}")


def _check_refusal(message: str) -> None:
    if not 0 < len(message) <= _MAX_REFUSAL:
        raise AssertionError(f"a refusal of {len(message)} characters")


TARGETS: Final[dict[str, Target]] = {"screen": circuit_screen, "axon": axon_request, "cursor": cursor}
MODULES: Final = {
    "screen": ("qcompute.circuits.screen", "qcompute.circuits.cost"),
    "axon": ("qcompute.axon.dendrite", "qcompute.axon.endpoint"),
    "cursor": ("qcompute.ledger.cursor",),
}
"""What of the daemon's code each one watches for new branches."""
