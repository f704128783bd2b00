"""What is known about a circuit once it has been screened, parsed and measured in the sandbox: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from qcompute.circuits.measurement import Register
from qcompute.circuits.target import Translation
from qcompute.errors import CannotRun


class Language(StrEnum):
    """The languages a circuit may be written in."""

    OPENQASM_2 = "openqasm2"
    OPENQASM_3 = "openqasm3"


class CompiledCircuit(BaseModel):
    """A parsed circuit.

    ``measured`` maps each written classical bit to the qubit last measured into it, as ``(clbit, qubit)`` pairs in
    clbit order; bits are numbered over all registers in declared order. ``depth`` and ``gate_counts`` are of the
    circuit as written, its own gates under new names (`qcompute.circuits.own_gates`); ``num_ops`` counts every
    instruction, measurements and barriers included. 2 ** ``busiest_cut`` bounds, by the gates across, the entanglement
    between the qubits up to some k and the rest, for the worst k; None where it is not known. ``translation`` is the
    circuit in the form of the device it was compiled for, None where a device takes the text as it is.
    """

    model_config = ConfigDict(frozen=True)

    source: str = Field(repr=False)
    language: Language
    sha256: str
    num_qubits: int
    num_clbits: int
    registers: tuple[Register, ...]
    measured: tuple[tuple[int, int], ...]
    gate_counts: dict[str, int]
    depth: int
    num_ops: int
    has_mid_circuit_measurement: bool = False
    has_control_flow: bool = False
    busiest_cut: int | None = None
    translation: Translation | None = None

    @property
    def text(self) -> str:
        """What the device is given: the translation where there is one, else the program as it came."""
        return self.source if self.translation is None else self.translation.text


DOCUMENTED_OPTIONS: Final = ("device", "node", "tags", "routing_policy", "optimization_level", "seed")
"""Keys of ``configuration_data`` that are honoured here; all others are kept and passed on to the adapter."""


def _as_tuple(tags: object) -> object:
    """One word or a list of them; JSON has no tuples."""
    if isinstance(tags, str):
        return (tags,)
    return tuple(tags) if isinstance(tags, list) else tags  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON


class _Documented(BaseModel):
    model_config = ConfigDict(strict=True)

    device: str | None = Field(default=None, min_length=1, max_length=256)
    node: str | None = Field(default=None, min_length=1, max_length=256)
    tags: Annotated[tuple[str, ...], Field(max_length=16), BeforeValidator(_as_tuple)] | None = None
    routing_policy: str | None = Field(default=None, max_length=64)
    optimization_level: int | None = Field(default=None, ge=0, le=3)
    seed: int | None = Field(default=None, ge=0, lt=2**63)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """``configuration_data``, understood.

    ``device`` asks for one device by id, also as account/device; ``node`` for one device or all of an account;
    ``tags`` for devices that have all of these; ``routing_policy`` for a way to choose (`qcompute.miner.placement`).
    ``optimization_level`` is the transpiler's, 0 to 3; ``seed`` makes a simulator repeatable. ``passed_on`` holds
    every other key, untouched.
    """

    device: str | None = None
    optimization_level: int | None = None
    seed: int | None = None
    passed_on: dict[str, Any] = field(default_factory=dict[str, Any])
    node: str | None = None
    tags: tuple[str, ...] = ()
    routing_policy: str | None = None

    @classmethod
    def of(cls, configuration_data: dict[str, Any]) -> JobOptions:
        """Read ``configuration_data``.

        Raises:
            CannotRun: a documented key has a value that cannot be honoured; the message names the key.
        """
        try:
            known = _Documented.model_validate({k: configuration_data.get(k) for k in DOCUMENTED_OPTIONS})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = str(first["loc"][0])
            raise CannotRun(f"configuration_data.{name}: {first['msg']}", reason="bad_option") from None
        rest = {k: v for k, v in configuration_data.items() if k not in DOCUMENTED_OPTIONS}
        return cls(
            device=known.device,
            optimization_level=known.optimization_level,
            seed=known.seed,
            passed_on=rest,
            node=known.node,
            tags=known.tags or (),
            routing_policy=known.routing_policy,
        )
