"""The accounts: the provider's extra and credentials, and what its devices say of themselves. Nothing is spent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from qcompute.cluster.accounts import open_cluster
from qcompute.console.doctor.findings import Finding, failed, ok, warning
from qcompute.errors import AuthFailed, ConfigError, DeliveryError, QComputeError, QuotaSpent, VendorError
from qcompute.jobserver.web import new_session, read_object
from qcompute.miner.limits import OperatorSettings
from qcompute.miner.operator import AccountDocument, HealthDocument
from qcompute.miner.parts import CLUSTER
from qcompute.miner.providers.base import AvailabilityStatus, Device, ProviderAdapter
from qcompute.miner.providers.registry import open_adapter
from qcompute.miner.settings import Settings

LIMIT_SECONDS: Final = 60.0
"""For all an account is asked: a vendor that takes longer keeps no operator waiting."""

ANSWER_SECONDS: Final = 5.0
"""For the miner on this machine."""

_MOST_DEVICES: Final = 20
_SETUP: Final = "see `qcompute providers` and docs/how-to for this provider's set-up"


async def accounts(settings: Settings) -> list[Finding]:
    """One finding for each account and for each of its devices.

    A daemon that runs is asked: it has the accounts open. Otherwise they are opened here, on the calling thread as some
    SDKs need, and closed again.
    """
    if (health := await _daemon_health(settings.operator)) is not None:
        return [_of_daemon(one) for one in health.accounts]
    try:
        opened = _opened(settings, settings.neuron.directory)
    except ConfigError as error:
        return [failed(f"provider {settings.provider}", str(error), _SETUP)]
    try:
        found = await asyncio.gather(*(_asked(name, adapter) for name, adapter in opened))
    finally:
        await asyncio.gather(*(asyncio.to_thread(adapter.close) for _, adapter in opened))
    return [finding for each in found for finding in each]


async def _daemon_health(operator: OperatorSettings) -> HealthDocument | None:
    """What the daemon on the operator port says; None when none is there."""
    async with new_session(total_seconds=ANSWER_SECONDS, connect_seconds=ANSWER_SECONDS) as session:
        try:
            url = URL.build(scheme="http", host=operator.host, port=operator.port, path="/health")
            async with session.get(url, allow_redirects=False) as answer:
                return HealthDocument.model_validate(await read_object(answer, "health"))
        except (aiohttp.ClientError, DeliveryError, TimeoutError, OSError, ValueError):
            return None


def _of_daemon(account: AccountDocument) -> Finding:
    subject = f"provider {account.name}"
    if account.offline_because is not None:
        return failed(subject, f"the running miner has it offline: {account.offline_because}", _SETUP)
    return ok(subject, f"the running miner uses {', '.join(account.devices) or 'no device yet'}")


def _opened(settings: Settings, directory: Path) -> list[tuple[str, ProviderAdapter]]:
    if settings.provider == CLUSTER:
        return [(plan.name, plan.adapter) for plan in open_cluster(settings.cluster, directory)]
    return [(settings.provider, open_adapter(settings.provider, settings.provider_table, directory=directory))]


async def _asked(name: str, adapter: ProviderAdapter) -> list[Finding]:
    subject = f"provider {name}"
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            devices = await asyncio.to_thread(adapter.list_devices)
            shown = devices[:_MOST_DEVICES]
            states = [await asyncio.to_thread(adapter.get_availability, device.device_id) for device in shown]
    except (TimeoutError, QComputeError) as error:
        return [_account_failed(subject, error)]
    if not devices:
        return [failed(subject, "it offers no device", "check the devices in the provider's table of settings")]
    of_devices = [_device_finding(device, state) for device, state in zip(shown, states, strict=True)]
    return [ok(subject, f"{len(devices)} devices"), *of_devices]


def _account_failed(subject: str, error: TimeoutError | QComputeError) -> Finding:
    match error:
        case AuthFailed():
            return failed(
                subject, f"the credentials are not accepted: {error}", f"make a new key at the vendor; {_SETUP}"
            )
        case QuotaSpent():
            return failed(subject, f"the account may not spend more: {error}", "raise the limit at the vendor, or wait")
        case VendorError():
            fix = "check this machine's network and the vendor's status page, then try again"
            return failed(subject, str(error), fix)
        case QComputeError():
            return failed(subject, str(error), _SETUP)
        case _:
            fix = "check this machine's network and try again"
            return failed(subject, f"no answer within {LIMIT_SECONDS:.0f} s", fix)


def _device_finding(device: Device, state: AvailabilityStatus | None) -> Finding:
    subject = f"device {device.device_id}"
    if state is None:
        return ok(subject, "it says nothing of itself")
    said = [state.availability or "unknown state"]
    if state.pending_jobs is not None:
        said.append(f"{state.pending_jobs} jobs before ours")
    if state.status_msg:
        said.append(state.status_msg)
    words = ", ".join(said)
    if state.is_available is not False:
        return ok(subject, words)
    when = f"; it says it is back at {state.next_available}" if state.next_available else ""
    return warning(subject, words, f"jobs for it wait, or go elsewhere by the routing policy{when}")
