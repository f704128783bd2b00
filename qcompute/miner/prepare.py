"""A circuit made ready for one device, the same way when it is routed and when it is submitted."""

from __future__ import annotations

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Target
from qcompute.errors import CannotRun
from qcompute.miner.account import Account
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.job import Job
from qcompute.miner.providers.base import Device, Prepared, ProviderAdapter, Verb
from qcompute.units import Money


async def made_ready(
    account: Account, circuits: CircuitCache, job: Job, circuit: CompiledCircuit, device: Device
) -> tuple[Prepared, Money | None]:
    """Checked, compiled in the sandbox where the device has a target of its own, prepared, and what it will cost.

    Raises:
        CannotRun: the device cannot run it.
        VendorError, SandboxUnavailable: that cannot be told now.
    """
    options = JobOptions.of(job.configuration_data)
    target = await account.call(Verb.DESCRIBE, _target, account.adapter, circuit, device, job.shots, options)
    if target is not None:
        circuit = await circuits.translated(circuit, target, options.optimization_level)
    return await account.call("prepare", _prepared, account.adapter, circuit, device, job.shots, options)


async def prepare_again(account: Account, circuits: CircuitCache, job: Job) -> tuple[Prepared, Money | None]:
    """What `submit` is given: the same text for the same job, computed anew instead of stored.

    Raises:
        CannotRun: the device is gone or cannot run it any more.
        VendorError, SandboxUnavailable: that cannot be told now.
    """
    circuit = await circuits.compiled(job)
    for device in await account.ask(Verb.DESCRIBE, account.devices):
        if device.device_id == job.device_id:
            return await made_ready(account, circuits, job, circuit, device)
    raise CannotRun("the chosen device is not there any more", reason="no_device")


def _target(
    adapter: ProviderAdapter, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions
) -> Target | None:
    adapter.check(circuit, device, shots)
    return adapter.target(device, options)


def _prepared(
    adapter: ProviderAdapter, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions
) -> tuple[Prepared, Money | None]:
    prepared = adapter.prepare(circuit, device, shots, options)
    return prepared, adapter.estimate(prepared, device, shots)
