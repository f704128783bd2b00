"""Settings of ``PROVIDER=aer``: how much of this machine simulations may use, and on which of its devices."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qcompute.vendor.aer.methods import OVERHEAD_BYTES, Method


class Processor(StrEnum):
    """What the amplitudes are worked on by, in Aer's words."""

    CPU = "CPU"
    GPU = "GPU"


ON_CPU: Final = (Method.AUTOMATIC, Method.STATEVECTOR, Method.MATRIX_PRODUCT_STATE, Method.STABILIZER)


class AerConfig(BaseModel):
    """How much of this machine simulations may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int | None = Field(default=None, ge=1)
    """Simulations at once; each is a process of one thread. Not given: one for each core this process may run on, which
    is what one simulation after another on all cores would finish at best; 1 on a GPU."""
    memory_bytes: int = Field(default=4 << 30, ge=1 << 30)
    """Address space of one simulation: 4 GiB hold a statevector of 27 qubits."""
    memory_total_bytes: int | None = Field(default=None, ge=1 << 30)
    """Memory of all simulations together, those of other nodes in this daemon too. A job that does not fit beside the
    ones that run waits. Not given: three quarters of this machine's memory, or of its control group's where that is
    less."""
    wall_seconds: float = Field(default=600.0, gt=0)
    """The longest one simulation may take; longer ones fail and say so."""
    cpu_seconds: float = Field(default=600.0, gt=0)
    """CPU time of one simulation."""
    idle_seconds: float = Field(default=120.0, gt=0)
    """A simulation process without work ends after this."""
    device: Processor = Processor.CPU
    """`CPU`, or `GPU` with a build of qiskit-aer for it (`pip install qiskit-aer-gpu`). What the GPU cannot run is
    found out at the start by running it, and is then not offered."""
    methods: tuple[Method, ...] = ()
    """Simulation methods offered, each as a device of its own. Not given: `automatic`, `statevector`,
    `matrix_product_state` and `stabilizer` on a CPU, `statevector` on a GPU."""
    custatevec: bool = False
    """Whether a GPU runs the method `statevector` with cuQuantum's cuStateVec."""
    gpu_memory_bytes: int = Field(default=16 << 30, ge=1 << 30)
    """Memory of the GPU, shared by `processes`: 16 GiB hold a statevector of 30 qubits."""
    spool: Path = Path("~/.qcompute/aer")
    """Where jobs and results lie until they are ``keep_days`` old. The daemon sets it to ``aer`` in the miner's own
    folder unless told otherwise; two miners must not share one."""
    keep_days: float = Field(default=3.0, gt=0)
    """Results are fetched and stored at once; this is for looking at them by hand. Not more than 100,000 are kept."""
    noise_backends: tuple[str, ...] = ()
    """IBM fake backends offered as noisy devices, by name: ``fake_manila``, ``fake_torino`` …"""
    price_per_task: float = Field(default=0.0, ge=0)
    """USD charged per job."""
    price_per_shot: float = Field(default=0.0, ge=0)
    """USD charged per shot."""

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        if self.device is Processor.CPU and Method.TENSOR_NETWORK in self.methods:
            raise ValueError("the method tensor_network runs on a GPU only; set device = GPU")
        if self.device is Processor.CPU and self.custatevec:
            raise ValueError("custatevec is for a GPU; set device = GPU")
        if self.device is Processor.GPU and self.noise_backends:
            raise ValueError("noise_backends are simulated on a CPU; give them a node of their own")
        return self

    @property
    def methods_offered(self) -> tuple[Method, ...]:
        """``methods``, each once, or those offered when nothing is said."""
        default = ON_CPU if self.device is Processor.CPU else (Method.STATEVECTOR,)
        return tuple(dict.fromkeys(self.methods or default))

    @property
    def simulations_at_once(self) -> int:
        """``processes``, or how many there are when nothing is said."""
        if self.processes is not None:
            return self.processes
        return len(os.sched_getaffinity(0)) if self.device is Processor.CPU else 1

    @property
    def amplitude_bytes(self) -> int:
        """What one simulation has for its amplitudes."""
        if self.device is Processor.GPU:
            return self.gpu_memory_bytes // self.simulations_at_once
        return self.memory_bytes - OVERHEAD_BYTES
