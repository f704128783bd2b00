"""A circuit made ready for one device, the same way when it is routed and when it is submitted.

Each step into an account's threads costs more than most of what is done there, so it is done in one where it can be.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Target
from qcompute.errors import CannotRun
from qcompute.miner.account import Account
from qcompute.miner.circuit_cache import CircuitCache, Ready
from qcompute.miner.job import Job
from qcompute.miner.providers.base import Device, ProviderAdapter, Verb


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A device that can run the circuit: what it is to be compiled to, or that it is ready as it is."""

    device: Device
    target: Target | None
    ready: Ready | None


def look_at(account: Account, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> LookedAt:
    """Whether the device can run the circuit; made ready where it needs no compiling. Call it in an account's threads.

    Raises:
        CannotRun: it cannot.
        VendorError, SandboxUnavailable: that cannot be told now.
    """
    adapter = account.adapter
    account.check(circuit, device, shots)
    target = adapter.target(device, options)
    ready = _ready(adapter, circuit, device, shots, options) if target is None else None
    return LookedAt(device, target, ready)


async def made_ready(
    account: Account, circuits: CircuitCache, job: Job, circuit: CompiledCircuit, looked: LookedAt
) -> Ready:
    """The circuit compiled for a device, in the sandbox, and prepared.

    Raises:
        CannotRun: the device cannot run it.
        VendorError, SandboxUnavailable: that cannot be told now.
    """
    ready = looked.ready
    if ready is None:
        options = JobOptions.of(job.configuration_data)
        if looked.target is not None:
            circuit = await circuits.translated(circuit, looked.target, options.optimization_level)
        ready = await account.call("prepare", _ready, account.adapter, circuit, looked.device, job.shots, options)
    circuits.keep_ready(job, account.key, looked.device.device_id, ready, account.monotonic())
    return ready


async def prepare_again(account: Account, circuits: CircuitCache, job: Job) -> Ready:
    """The same text for the same job, computed anew instead of stored.

    Most jobs are submitted as soon as they are routed; what the router had made ready is then used as it is.

    Raises:
        CannotRun: the device is gone or cannot run it any more.
        VendorError, SandboxUnavailable: that cannot be told now.
    """
    device_id = job.device_id or ""
    if (ready := circuits.ready(job, account.key, device_id, account.monotonic())) is not None:
        return ready
    circuit = await circuits.compiled(job)
    looked = await account.ask(Verb.DESCRIBE, _look_again, account, circuit, job)
    return await made_ready(account, circuits, job, circuit, looked)


def _look_again(account: Account, circuit: CompiledCircuit, job: Job) -> LookedAt:
    for device in account.devices():
        if device.device_id == job.device_id:
            options = JobOptions.of(job.configuration_data)
            return look_at(account, circuit, device, job.shots, options)
    raise CannotRun("the chosen device is not there any more", reason="no_device")


def _ready(
    adapter: ProviderAdapter, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions
) -> Ready:
    prepared = adapter.prepare(circuit, device, shots, options)
    return Ready(prepared, adapter.estimate(prepared, device, shots))
