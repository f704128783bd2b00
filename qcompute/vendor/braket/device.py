"""What Amazon Braket says of a device, as plain data: ``deviceCapabilities`` of GetDevice, read leniently.

Facts: braket.device_schema of amazon-braket-schemas 1.32 (``paradigm``, ``service``, ``action``, ``standardized`` of
versions 1 to 3, IonQ's ``provider``). Unknown fields are ignored, and what a device leaves out is not known.
"""

from __future__ import annotations

import json
import logging
import statistics
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from qcompute.errors import BadReply, Unavailable
from qcompute.vendor.braket.aws import Aws
from qcompute.vendor.http import read
from qcompute.vendor.prices import Prices

_log = logging.getLogger(__name__)

OPENQASM: Final = "braket.ir.openqasm.program"

DESCRIBE_SECONDS: Final = 600.0
"""How long a description is used: it changes a few times a day, and GetDevice bears 5 calls a second."""
RETRY_SECONDS: Final = 60.0
"""How long an old description is used after a new one could not be had."""

_WEEK: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAYS: Final[Mapping[str, tuple[int, ...]]] = {
    "Everyday": tuple(range(7)),
    "Weekdays": tuple(range(5)),
    "Weekend": (5, 6),
    **{name: (number,) for number, name in enumerate(_WEEK)},
}

_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class Window(_Part):
    """When a device runs tasks, UTC. An end before the start is on the next day; the same time is a whole day."""

    execution_day: str
    window_start_hour: clock_time
    window_end_hour: clock_time


class Cost(_Part):
    """``unit`` is shot, task, minute or hour; ``price`` in USD."""

    price: Decimal
    unit: str


class Service(_Part):
    """``shots_range`` is inclusive."""

    shots_range: tuple[int, int]
    execution_windows: tuple[Window, ...] = ()
    device_cost: Cost | None = None
    updated_at: datetime | None = None


class Connectivity(_Part):
    """``connectivity_graph`` maps a qubit to those it is coupled with; it is empty where all are."""

    fully_connected: bool = False
    connectivity_graph: dict[int, tuple[int, ...]] = {}

    def pairs(self) -> list[tuple[int, int]] | None:
        """Directed couplings in order; None where all qubits are coupled."""
        if self.fully_connected:
            return None
        return sorted((one, other) for one, others in self.connectivity_graph.items() for other in others)


class Paradigm(_Part):
    """A gate-model QPU or simulator; simulators have no couplings and no gates of their own."""

    qubit_count: int
    native_gate_set: list[str] | None = None
    connectivity: Connectivity | None = None


class Action(_Part):
    """How a device takes OpenQASM; ``supported_operations`` are Braket's gate names."""

    supported_operations: list[str]
    requires_all_qubits_measurement: bool | None = None


class Actions(_Part):
    """What a device runs; other kinds of programs are left out."""

    openqasm: Action = Field(alias=OPENQASM)


class Time(_Part):
    """A duration as the vendor writes it."""

    value: float
    unit: str

    @property
    def seconds(self) -> float | None:
        """None for a unit that is not known."""
        scale = _SECONDS.get(self.unit.lower())
        return None if scale is None else self.value * scale


class FidelityType(_Part):
    """What was measured, and how."""

    name: str


class Fidelity(_Part):
    """0 to 1."""

    fidelity: float
    fidelity_type: FidelityType | None = None

    @property
    def kind(self) -> str:
        """``READOUT`` is of the measurement; other words with READOUT in them are errors, not fidelities."""
        return self.fidelity_type.name.upper() if self.fidelity_type else ""


class Qubit(_Part):
    """One qubit."""

    t1: Time | None = Field(default=None, alias="T1")
    t2: Time | None = Field(default=None, alias="T2")
    one_qubit_fidelity: list[Fidelity] = []


class Pair(_Part):
    """One pair of qubits; each gate it has natively has an entry."""

    two_qubit_gate_fidelity: list[Fidelity] = []


class Standardized(_Part):
    """Versions 1 and 2 speak of each qubit, version 3 of the device as a whole."""

    one_qubit_properties: dict[int, Qubit] | None = None
    two_qubit_properties: dict[str, Pair] | None = None
    t1: Time | None = Field(default=None, alias="T1")
    t2: Time | None = Field(default=None, alias="T2")
    readout_fidelity: list[Fidelity] | None = None
    single_qubit_fidelity: list[Fidelity] | None = None
    two_qubit_gate_fidelity: list[Fidelity] | None = None

    def calibration(self) -> dict[str, Any]:
        """Seconds by qubit, and median errors, under the names of `Capability.extras`; None for what is not known."""
        qubits = self.one_qubit_properties or {}
        of_qubits = [one for qubit in qubits.values() for one in qubit.one_qubit_fidelity]
        of_pairs = [one for pair in (self.two_qubit_properties or {}).values() for one in pair.two_qubit_gate_fidelity]
        gates = [one for one in of_qubits if "READOUT" not in one.kind]
        readouts = [one for one in of_qubits if one.kind == "READOUT"]
        return {
            "t1_seconds": _by_qubit({number: qubit.t1 for number, qubit in qubits.items()}, self.t1),
            "t2_seconds": _by_qubit({number: qubit.t2 for number, qubit in qubits.items()}, self.t2),
            "one_qubit_error": _median_error(gates or self.single_qubit_fidelity),
            "readout_error": _median_error(readouts or self.readout_fidelity),
            "two_qubit_error": _median_error(of_pairs or self.two_qubit_gate_fidelity),
        }


class Mean(_Part):
    """Of all qubits or pairs."""

    mean: float


class IonqProvider(_Part):
    """What IonQ says in its own form: mean fidelities of ``1Q``, ``2Q`` and ``spam``."""

    fidelity: dict[str, Mean]

    def calibration(self) -> dict[str, Any]:
        """As `Standardized.calibration`, of what is there."""
        names = {"1Q": "one_qubit_error", "2Q": "two_qubit_error", "spam": "readout_error"}
        return {ours: round(1 - self.fidelity[name].mean, 9) for name, ours in names.items() if name in self.fidelity}


class Summary(_Part):
    """What a list says of a device. ``device_status`` is ONLINE, OFFLINE or RETIRED."""

    device_arn: str
    device_type: str
    device_status: str
    provider_name: str


class Queue(_Part):
    """``queue_size`` is a text: ``"3"``, ``">4000"``."""

    queue: str
    queue_size: str


class Live(Summary):
    """What GetDevice says now."""

    device_capabilities: str
    device_queue_info: list[Queue] = []

    @property
    def waiting(self) -> int | None:
        """Tasks in its queues, ordinary and prioritised; at least, where the vendor stops counting."""
        sizes = [whole_number(one.queue_size) for one in self.device_queue_info if one.queue == "QUANTUM_TASKS_QUEUE"]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None


class Period(_Part):
    """Aware."""

    start_at: datetime
    end_at: datetime


class SpendingLimit(_Part):
    """A limit of one device."""

    time_period: Period
    device_arn: str = ""
    spending_limit: str | None = None
    total_spend: str | None = None

    @property
    def text(self) -> str:
        """For people, in USD."""
        return f"{self.device_arn}: {self.total_spend or '?'} of {self.spending_limit or '?'} USD"

    def holds(self, now: datetime) -> bool:
        """Whether Amazon keeps to it now."""
        return self.time_period.start_at <= now < self.time_period.end_at


class Capabilities(_Part):
    """``deviceCapabilities`` of a gate-model device."""

    service: Service
    paradigm: Paradigm
    action: Actions
    standardized: Standardized | None = None
    provider: IonqProvider | Any = None

    def calibration(self) -> dict[str, Any]:
        """See `Standardized.calibration`."""
        standard = (self.standardized or Standardized()).calibration()
        own = self.provider.calibration() if isinstance(self.provider, IonqProvider) else {}
        return standard | {name: value for name, value in own.items() if standard[name] is None}


@dataclass(frozen=True, slots=True)
class Described:
    """A device as it was described last. ``kind`` is QPU or SIMULATOR; its tasks are created in ``region``."""

    arn: str
    vendor: str
    kind: str
    region: str
    can: Capabilities

    @property
    def is_qpu(self) -> bool:
        """A simulator's price is by the minute, and it has no spending limits."""
        return self.kind == "QPU"

    def prices(self, task_fee: Decimal) -> Prices | None:
        """What it says it costs; a QPU does not say the fee of each task."""
        return prices(self.can.service.device_cost, task_fee if self.is_qpu else Decimal(0))


class Catalog:
    """The gate-model devices of an account that take OpenQASM, by ARN and in its order. Thread-safe.

    ``only`` are ARNs; empty means all.
    """

    def __init__(self, aws: Aws, regions: Sequence[str], *, only: Collection[str], simulators: bool) -> None:
        self._aws = aws
        self._regions = tuple(regions)
        self._only = frozenset(only)
        self._simulators = simulators
        self._lock = threading.Lock()
        self._known: dict[str, Described] = {}
        self._fresh_until = 0.0

    def devices(self) -> dict[str, Described]:
        """Asked for anew when what is known is old. Raises as `Aws.call`; Unavailable only when none are known."""
        with self._lock:
            now = time.monotonic()
            if now < self._fresh_until:
                return self._known
            try:
                self._known = self._described()
                self._fresh_until = now + DESCRIBE_SECONDS
            except Unavailable as error:
                if not self._known:
                    raise
                _log.warning("devices are not described anew: %s", error, extra={"action": "stale_devices"})
                self._fresh_until = now + RETRY_SECONDS
            return self._known

    def live(self, known: Described) -> Live:
        """As it is now. Raises as `Aws.call`, and BadReply."""
        answer = self._aws.call("braket", known.region, "get_device", deviceArn=known.arn)
        return read(Live, answer, what=known.arn)

    def _described(self) -> dict[str, Described]:
        found: dict[str, Described] = {}
        for region in self._regions:
            for item in self._aws.pages("braket", region, "search_devices", "devices", filters=[]):
                summary = read(Summary, item, what="a list of devices")
                if summary.device_arn not in found and self._is_wanted(summary, region):
                    described = self._describe(summary, region)
                    found.update({summary.device_arn: described} if described else {})
        return dict(sorted(found.items()))

    def _is_wanted(self, summary: Summary, region: str) -> bool:
        home = (summary.device_arn.split(":") + 4 * [""])[3]  # empty for simulators, which are in several regions
        allowed = summary.device_type == "QPU" or self._simulators
        wanted = summary.device_arn in self._only or not self._only
        return wanted and allowed and home in ("", region) and summary.device_status != "RETIRED"

    def _describe(self, summary: Summary, region: str) -> Described | None:
        """None for a device that does not take OpenQASM, or that we do not understand."""
        arn = summary.device_arn
        answer = self._aws.call("braket", region, "get_device", deviceArn=arn)
        try:
            can = read_capabilities(read(Live, answer, what=arn).device_capabilities, arn)
        except BadReply as error:
            _log.warning("%s is not offered: %s", arn, error, extra={"action": "bad_device"})
            return None
        return None if can is None else Described(arn, summary.provider_name, summary.device_type, region, can)


def read_capabilities(text: str, arn: str) -> Capabilities | None:
    """``deviceCapabilities``; None for a device that does not take OpenQASM. Raises BadReply."""
    try:
        document = json.loads(text)
        if OPENQASM not in document.get("action", {}):
            return None
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise BadReply(f"{arn}: its capabilities are no JSON object", field="deviceCapabilities") from None
    return read(Capabilities, document, what=arn)


def prices(cost: Cost | None, task_fee: Decimal) -> Prices | None:
    """What a device says it costs, with the fee of each task that it does not say; None for an unknown unit."""
    match cost:
        case Cost(unit="shot"):
            return Prices(per_task=task_fee, per_shot=cost.price)
        case Cost(unit="task"):
            return Prices(per_task=cost.price)
        case Cost(unit="minute"):
            return Prices(per_minute=cost.price)
        case Cost(unit="hour"):
            return Prices(per_minute=cost.price / 60)
        case _:
            return None


def next_open(windows: Sequence[Window], now: datetime) -> datetime | None:
    """``now`` itself when a device runs tasks now, else when it starts to, within a week; None when it never does.

    ``now`` is aware UTC. Both ends of a window belong to it, by the second.
    """
    now = now.replace(microsecond=0)
    starts: list[datetime] = []
    for days in range(-1, 8):  # yesterday's window may end today
        day = (now + timedelta(days=days)).date()
        for window in windows:
            if day.weekday() not in _DAYS.get(window.execution_day, ()):
                continue
            start, end = (
                datetime.combine(day, hour.replace(tzinfo=UTC))
                for hour in (window.window_start_hour, window.window_end_hour)
            )
            if end <= start:
                end += timedelta(days=1)
            if start <= now <= end:
                return now
            if start > now:
                starts.append(start)
    return min(starts, default=None)


def whole_number(text: str | None) -> int | None:
    """Of a queue's size or position: ``"12"``, ``">4000"`` (at least that), ``"None"``."""
    digits = (text or "").strip().lstrip(">").split(" ")[0]
    return int(digits) if digits.isdecimal() else None


def _by_qubit(times: Mapping[int, Time | None], of_all: Time | None) -> dict[int, float | None] | float | None:
    if times:
        return {number: None if time is None else time.seconds for number, time in sorted(times.items())}
    return None if of_all is None else of_all.seconds


def _median_error(fidelities: Sequence[Fidelity] | None) -> float | None:
    if not fidelities:
        return None
    return round(1 - statistics.median(one.fidelity for one in fidelities), 9)
