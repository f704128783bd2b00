"""What the job server knows of us: availability, capabilities, prices, load.

Said at start, every ``heartbeat_seconds``, whenever availability or acceptance changes, and once more at the end
(Offline). Reports are never queued: one that could not be delivered is replaced by the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from qcompute.errors import DeliveryError, StoreError, VendorError
from qcompute.jobserver.contract import BackendReport, BackendStatus, JobServer
from qcompute.ledger.contract import Ledger
from qcompute.miner.account import Account
from qcompute.miner.job import State
from qcompute.miner.limits import MinerSettings
from qcompute.miner.providers.base import AvailabilityStatus, Capability, Device, Verb
from qcompute.units import ProviderKey

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often our own load is looked at for a change worth telling."""

START_SECONDS: Final = 5.0
"""How long the first report waits for the metagraph, so that a start is not told as a refusal of jobs."""

VENDOR_SECONDS: Final = 30.0
"""How often the vendor is asked for availability, capabilities and prices: one round of free calls."""

AT_WORK: Final = (State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING, State.HELD)


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One device as the vendor describes it now; None where it does not say."""

    device: Device
    capability: Capability | None
    availability: AvailabilityStatus | None
    pricing: dict[str, float] | None
    currency: str = "USD"


def ask_vendor(account: Account) -> list[DeviceReport]:
    """Every device of the account that jobs may go to. Blocks; raises what the adapter raises."""
    adapter = account.adapter
    return [
        DeviceReport(
            device,
            account.capability(device.device_id),
            _availability(account, device.device_id),
            adapter.get_pricing(device.device_id),
            adapter.price_currency(),
        )
        for device in account.devices()
    ]


def _availability(account: Account, device_id: str) -> AvailabilityStatus | None:
    """The device's; while the whole account is offline that, since no job is given to it then."""
    if account.offline_because is None:
        return account.availability(device_id)
    return AvailabilityStatus(availability="OFFLINE", is_available=False, status_msg=account.offline_because)


def backend_status(devices: list[DeviceReport]) -> BackendStatus:
    """The best of the devices: Online when any can take jobs, Maintenance when one says so, else Offline."""
    words = {(report.availability.availability or "").upper() for report in devices if report.availability}
    if any(can_take_jobs(report) for report in devices):
        return BackendStatus.ONLINE
    return BackendStatus.MAINTENANCE if "MAINTENANCE" in words else BackendStatus.OFFLINE


def can_take_jobs(report: DeviceReport) -> bool:
    """Whether a device takes jobs now, as far as its vendor says."""
    if report.availability is None:
        return True  # the vendor does not say; routing will find out
    if report.availability.is_available is not None:
        return report.availability.is_available
    return (report.availability.availability or "ONLINE").upper() in ("ONLINE", "DEGRADED")


def metadata_of(devices: list[DeviceReport], *, inflight: int, max_inflight: int) -> dict[str, Any]:
    """The ``metadata`` of ``PATCH backends``: the reference's keys for the first device, and all devices beside it."""
    documents = [described(report) for report in devices]
    first = documents[0] if documents else {}
    return {
        **first,
        "local_inflight": inflight,
        "max_inflight": max_inflight,
        "devices": documents,
    }


def described(report: DeviceReport) -> dict[str, Any]:
    """A device as the job server and the operator are told of it."""
    availability = report.availability or AvailabilityStatus()
    capability = report.capability or Capability()
    return {
        "device_id": report.device.device_id,
        "provider": report.device.provider,
        "vendor": report.device.vendor,
        "device_type": report.device.device_type,
        "pending": availability.pending_jobs,
        "availability": availability.availability,
        "next_available": availability.next_available,
        "status_msg": availability.status_msg,
        "num_qubits": capability.num_qubits,
        "capabilities": {"basis_gates": capability.basis_gates, "extras": capability.extras},
        "pricing": None if report.pricing is None else {**report.pricing, "currency": report.currency},
    }


class Heartbeat:
    """Tells the job server what this miner can do now. ``may_serve`` says whether new jobs could be taken at all."""

    def __init__(
        self,
        accounts: Sequence[Account],  # as they are at the time: others may be put in it
        server: JobServer,
        ledger: Ledger,
        settings: MinerSettings,
        *,
        may_serve: Callable[[], bool],
    ) -> None:
        self._accounts = accounts
        self._server = server
        self._ledger = ledger
        self._settings = settings
        self._may_serve = may_serve
        self._devices: dict[ProviderKey, list[DeviceReport]] = {}
        """By account; one that cannot be asked is not in it."""
        self._trouble: dict[ProviderKey, str] = {}
        self._delivery_trouble = False
        self._told: BackendReport | None = None
        self._telling = asyncio.Lock()
        self._leaving = False
        self._look_now = False

    @property
    def devices(self) -> list[DeviceReport]:
        """What the vendors said last, in the order of the accounts."""
        return [device for account in self._accounts for device in self._devices.get(account.key, [])]

    def look_now(self) -> None:
        """Ask the vendors and report within a second: the accounts are others now."""
        self._look_now = True

    @property
    def trouble(self) -> dict[ProviderKey, str]:
        """The accounts that could not be asked last, and why."""
        return dict(self._trouble)

    def devices_of(self, account: ProviderKey) -> list[DeviceReport]:
        """What one account's vendor said last; nothing of one that cannot be asked."""
        return self._devices.get(account, [])

    @property
    def told(self) -> BackendReport | None:
        """What the job server heard last; None before it heard anything of this process."""
        return self._told

    @property
    def is_unheard(self) -> bool:
        """Whether the job server did not hear the last report."""
        return self._delivery_trouble

    async def run(self) -> None:
        """Report until cancelled."""
        loop = asyncio.get_running_loop()
        self._told = None  # another process may have told something else since
        await self._wait_to_serve()
        vendor_due = told_due = loop.time()
        while True:
            now = loop.time()
            if self._look_now:
                self._look_now = False
                vendor_due = told_due = now
            if now >= vendor_due:
                await self._ask_vendors()
                vendor_due = loop.time() + min(VENDOR_SECONDS, self._settings.heartbeat_seconds)
            report = await self._report()
            if report is not None and (now >= told_due or self._is_news(report)):
                await self._tell(report)
                told_due = loop.time() + self._settings.heartbeat_seconds
            await asyncio.sleep(min(LOOK_SECONDS, self._settings.heartbeat_seconds))

    async def _wait_to_serve(self) -> None:
        for _ in range(int(START_SECONDS / 0.1)):
            if self._may_serve():
                return
            await asyncio.sleep(0.1)

    async def say_offline(self) -> None:
        """The last report; raises `DeliveryError` when the job server does not hear it."""
        self._leaving = True
        report = self._told or BackendReport(False, BackendStatus.OFFLINE, 0, {})
        async with self._telling:  # a report under way must not arrive after this one
            await self._server.report_backend(replace(report, accepting_jobs=False, status=BackendStatus.OFFLINE))

    async def _ask_vendors(self) -> None:
        # What was known of an account that jobs do not go to any more is forgotten.
        names = {account.key for account in self._accounts}
        self._devices = {name: known for name, known in self._devices.items() if name in names}
        self._trouble = {name: text for name, text in self._trouble.items() if name in names}
        await asyncio.gather(*(self._ask(account) for account in self._accounts))

    async def _ask(self, account: Account) -> None:
        try:
            self._devices[account.key] = await account.ask(Verb.DESCRIBE, ask_vendor, account)
            self._trouble.pop(account.key, None)
        except Exception as error:  # noqa: BLE001 - an adapter may raise anything; we then say Offline
            text = error.message if isinstance(error, VendorError) else type(error).__name__
            if text != self._trouble.get(account.key):
                _log.warning("%s cannot be asked: %s", account.key, text, extra={"action": "vendor"})
            self._trouble[account.key] = text
            self._devices.pop(account.key, None)

    async def _report(self) -> BackendReport | None:
        try:
            counts = await self._ledger.count_by_state()
        except StoreError as error:
            _log.warning("no report while the ledger fails: %s", error, extra={"action": "heartbeat"})
            return None
        inflight = sum(counts[state] for state in AT_WORK)
        devices = self.devices
        status = backend_status(devices)
        accepting = status is BackendStatus.ONLINE and inflight < self._settings.max_inflight and self._may_serve()
        metadata = metadata_of(devices, inflight=inflight, max_inflight=self._settings.max_inflight)
        if self._trouble:
            told = [f"{name} cannot be asked: {text}" for name, text in self._trouble.items()]
            metadata["status_msg"] = "; ".join(told)
        return BackendReport(accepting, status, inflight, metadata)

    def _is_news(self, report: BackendReport) -> bool:
        told = self._told
        return told is None or (told.accepting_jobs, told.status) != (report.accepting_jobs, report.status)

    async def _tell(self, report: BackendReport) -> None:
        try:
            async with self._telling:
                if self._leaving:
                    return
                await self._server.report_backend(report)
        except DeliveryError as error:
            if not self._delivery_trouble:
                _log.warning("the job server does not hear our status: %s", error, extra={"action": "heartbeat"})
            self._delivery_trouble = True
        else:
            if self._delivery_trouble or self._is_news(report):
                _log.info(
                    "the job server knows: %s, accepting jobs: %s",
                    report.status,
                    report.accepting_jobs,
                    extra={"action": "heartbeat"},
                )
            self._delivery_trouble = False
            self._told = report
