"""Messages to the operator's webhook about what needs a person, each once when it begins and once when it is over.

What was told is kept in a file beside the ledger, so that a restart tells nothing twice. Where several processes share
a ledger, the one that has the road tells; another one that takes it over tells what still lasts once more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from qcompute.console.webhook import Webhook
from qcompute.errors import StoreError
from qcompute.ledger.contract import OpenWork
from qcompute.miner.budget import Budgets
from qcompute.miner.job import State
from qcompute.miner.parts import Parts
from qcompute.miner.watching import AlertSettings
from qcompute.units import Hotkey, utc_now

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""How often the daemon is looked at: a question to a reader of the ledger, and figures that are there."""


class Kind(StrEnum):
    """What there can be to tell."""

    HELD_JOBS = "held_jobs"
    BUDGET = "budget"
    VENDOR_DOWN = "vendor_down"
    DEREGISTERED = "deregistered"
    DELIVERY_OVERDUE = "delivery_overdue"


class Status(StrEnum):
    """Whether it begins or is over; the words of Prometheus' Alertmanager."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about: its kind, and which account, period or nothing more."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


@dataclass(frozen=True, slots=True)
class View:
    """What is the matter now, in words, and what cannot be told at the moment."""

    troubles: Mapping[str, str]
    unknown: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What the operator knows of: since when, and in which words."""

    since: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``key`` is the `Subject` as text."""

    key: str
    status: Status
    told: Told

    def document(self, hotkey: Hotkey) -> dict[str, Any]:
        """As JSON."""
        kind, _, subject = self.key.partition(":")
        return {
            "kind": kind,
            "subject": subject,
            "status": self.status.value,
            "text": self.told.text,
            "since": self.told.since.isoformat(),
            "miner": hotkey,
        }


class Occurrences:
    """Decides what is to be told. Pure: it is handed the time and what is the matter."""

    def __init__(self, told: Mapping[str, Told], *, after_seconds: float) -> None:
        self.told = dict(told)
        self._after = timedelta(seconds=after_seconds)
        self._began: dict[str, datetime] = {}
        self._ended: dict[str, datetime] = {}

    def due(self, view: View, now: datetime) -> list[Message]:
        """What is to be told now; the same again until `note` is called for it."""
        begun = {key: self._began.get(key, now) for key in view.troubles if key not in self.told}
        over = [key for key in self.told if key not in view.troubles and key not in view.unknown]
        self._began, self._ended = begun, {key: self._ended.get(key, now) for key in over}
        firing = [
            Message(key, Status.FIRING, Told(since, view.troubles[key]))
            for key, since in begun.items()
            if now - since >= self._after
        ]
        resolved = [
            Message(key, Status.RESOLVED, self.told[key])
            for key, since in self._ended.items()
            if now - since >= self._after
        ]
        return firing + resolved

    def note(self, message: Message) -> None:
        """It was told, or given up: not again."""
        if message.status is Status.FIRING:
            self.told[message.key] = message.told
        else:
            self.told.pop(message.key, None)


class Alerts:
    """The side task that looks and tells."""

    name = "alerts"

    def __init__(self, settings: AlertSettings, parts: Parts, webhook: Webhook, *, kept: Path) -> None:
        self._settings = settings
        self._parts = parts
        self._webhook = webhook
        self._kept = kept
        self._occurrences = Occurrences({}, after_seconds=settings.after_seconds)

    @property
    def facts(self) -> dict[str, str | int]:
        """Nothing for the ready file."""
        return {}

    async def start(self) -> None:
        """Remember what was told before."""
        told = await asyncio.to_thread(read_told, self._kept)
        self._occurrences = Occurrences(told, after_seconds=self._settings.after_seconds)

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            # Another process tells while the road is not ours.
            if self._parts.duties[0].is_ours:
                await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        """Let go of the connection."""
        await self._webhook.close()

    async def _look(self) -> None:
        try:
            work = await self._parts.ledger.open_work()
        except StoreError as error:
            _log.debug("not looked for alerts: %s", error, extra={"action": "alert"})
            return
        now = utc_now()
        view = view_of(self._parts, work, now, overdue_seconds=self._settings.delivery_seconds)
        for message in self._occurrences.due(view, now):
            level = logging.WARNING if message.status is Status.FIRING else logging.INFO
            _log.log(level, "%s: %s", message.status, message.told.text, extra={"action": "alert", "code": message.key})
            await self._webhook.send(message.document(self._parts.signer.hotkey))
            self._occurrences.note(message)
            await asyncio.to_thread(write_told, self._kept, dict(self._occurrences.told))


def view_of(parts: Parts, work: Collection[OpenWork], now: datetime, *, overdue_seconds: float) -> View:
    """What is the matter with the daemon."""
    troubles = _held(work) | _budgets(parts.fleet.budgets) | _overdue(work, now, overdue_seconds)
    unknown: set[str] = set()
    for account in parts.fleet.accounts:
        key = str(Subject(Kind.VENDOR_DOWN, account.key))
        why = account.offline_because or parts.heartbeat.trouble.get(account.key)
        if why is not None:
            troubles[key] = f"the account {account.key} cannot be used: {why}"
        elif not parts.heartbeat.devices_of(account.key):
            unknown.add(key)
    key = str(Subject(Kind.DEREGISTERED))
    if parts.watch.current is None:
        unknown.add(key)
    elif parts.signer.hotkey not in parts.watch.current.neurons:
        troubles[key] = f"the hotkey {parts.signer.hotkey} is not registered on the subnet"
    return View(troubles, unknown)


def _held(work: Collection[OpenWork]) -> dict[str, str]:
    counts: dict[str, int] = {}
    for one in work:
        if one.state is State.HELD:
            counts[one.account or ""] = counts.get(one.account or "", 0) + one.jobs
    return {
        str(Subject(Kind.HELD_JOBS, account)): (
            f"jobs are held at {account or 'no account'} and need you ({count} now): qcompute jobs list --state held"
        )
        for account, count in counts.items()
    }


def _budgets(budgets: Budgets) -> dict[str, str]:
    found: dict[str, str] = {}
    for document in budgets.documents():
        for period, figures in document["periods"].items():
            if figures["limit"] is None:
                continue
            limit, committed = Decimal(figures["limit"]), Decimal(figures["committed"])
            if committed >= limit * Decimal(str(document["alert_at"])):
                key = str(Subject(Kind.BUDGET, f"{document['account']}/{period}"))
                found[key] = (
                    f"the budget of the {period} of {document['account']} is used up to {committed / limit:.0%}: "
                    f"{figures['committed']} of {figures['limit']} {document['currency']}"
                )
    return found


def _overdue(work: Collection[OpenWork], now: datetime, overdue_seconds: float) -> dict[str, str]:
    settled = [one for one in work if one.oldest_settled_at is not None and one.state is State.SETTLED]
    oldest = min((one.oldest_settled_at for one in settled if one.oldest_settled_at is not None), default=now)
    if (now - oldest).total_seconds() < overdue_seconds or not settled:
        return {}
    count = sum(one.jobs for one in settled)
    text = f"{count} results wait for delivery, the oldest since {oldest:%Y-%m-%d %H:%M} UTC: is the job server down?"
    return {str(Subject(Kind.DELIVERY_OVERDUE)): text}


def told_file(ledger: Path) -> Path:
    """Where the daemon of a ledger keeps what it told."""
    return ledger.with_name(f"{ledger.name}.alerts")


def read_told(file: Path) -> dict[str, Told]:
    """What was told; nothing when there is no such file, or one that cannot be read."""
    try:
        document: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
        return {
            key: Told(datetime.fromisoformat(entry["since"]), str(entry["text"])) for key, entry in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_told(file: Path, told: Mapping[str, Told]) -> None:
    """Keep what was told; a disk that is full costs a message twice after the next restart, no more."""
    document = {key: {"since": entry.since.isoformat(), "text": entry.text} for key, entry in told.items()}
    draft = file.with_name(f"{file.name}.partial")
    try:
        draft.write_text(json.dumps(document), encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        _log.warning("what was told cannot be kept: %s", error.strerror, extra={"action": "alert"})
