"""What the operator is told, when, and how often."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qcompute.chain.contract import Metagraph
from qcompute.console.alerts import Message, Occurrences, Status, Told, View, read_told, view_of, write_told
from qcompute.ledger.contract import OpenWork
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.job import State
from qcompute.miner.limits import BudgetSettings
from qcompute.units import DeviceId, ExecutionId, Hotkey, Money, ProviderKey

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DOWN = "vendor_down:ionq"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def told_by(occurrences: Occurrences, view: View, now: datetime) -> list[tuple[str, str]]:
    messages = occurrences.due(view, now)
    for message in messages:
        occurrences.note(message)
    return [(message.key, message.status.value) for message in messages]


def test_each_is_told_once_and_once_when_it_is_over() -> None:
    occurrences = Occurrences({}, after_seconds=0)
    trouble = View({DOWN: "503"})
    assert told_by(occurrences, trouble, at(0)) == [(DOWN, "firing")]
    assert told_by(occurrences, trouble, at(9)) == []
    assert told_by(occurrences, View({DOWN: "another reason"}), at(10)) == [], "the same trouble in other words"
    assert told_by(occurrences, View({}), at(20)) == [(DOWN, "resolved")]
    assert told_by(occurrences, View({}), at(30)) == []
    assert told_by(occurrences, trouble, at(40)) == [(DOWN, "firing")], "a new occurrence"


def test_what_flickers_is_told_once() -> None:
    occurrences = Occurrences({}, after_seconds=60)
    trouble, none = View({DOWN: "503"}), View({})
    assert told_by(occurrences, trouble, at(0)) == []
    assert told_by(occurrences, none, at(59)) == []
    assert told_by(occurrences, trouble, at(60)) == [], "it began anew"
    assert told_by(occurrences, trouble, at(120)) == [(DOWN, "firing")]
    assert occurrences.told[DOWN].since == at(60)
    assert told_by(occurrences, none, at(130)) == []
    assert told_by(occurrences, trouble, at(189)) == []
    assert told_by(occurrences, none, at(190)) == []
    assert told_by(occurrences, none, at(250)) == [(DOWN, "resolved")]


def test_what_cannot_be_told_yet_is_not_over() -> None:
    """After a restart no vendor was asked yet: that must not read as all being well again."""
    occurrences = Occurrences({DOWN: Told(NOW, "503")}, after_seconds=0)
    assert told_by(occurrences, View({}, unknown={DOWN}), at(0)) == []
    assert told_by(occurrences, View({DOWN: "503"}), at(1)) == []
    assert told_by(occurrences, View({}), at(2)) == [(DOWN, "resolved")]


def test_what_was_not_sent_is_due_again() -> None:
    occurrences = Occurrences({}, after_seconds=0)
    assert occurrences.due(View({DOWN: "503"}), at(0)) == occurrences.due(View({DOWN: "503"}), at(1)) != []


def test_what_was_told_is_kept_and_a_broken_file_is_as_none(tmp_path: Path) -> None:
    file = tmp_path / "ledger.alerts"
    assert read_told(file) == {}
    told = {DOWN: Told(NOW, "Größe"), "deregistered": Told(NOW, "gone")}
    write_told(file, told)
    assert read_told(file) == told
    for broken in ("", "[]", '{"a": 1}', '{"a": {"since": "x", "text": ""}}', '{"a": {}}'):
        file.write_text(broken)
        assert read_told(file) == {}, broken
    write_told(tmp_path / "no folder" / "x", told)


def test_a_message_names_the_miner_and_what_it_is_about() -> None:
    message = Message("budget:ionq/day", Status.FIRING, Told(NOW, "80 %"))
    assert message.document(Hotkey("5Abc")) == {
        "kind": "budget",
        "subject": "ionq/day",
        "status": "firing",
        "text": "80 %",
        "since": "2026-11-21T12:00:00+00:00",
        "miner": "5Abc",
    }


def _parts(
    *,
    offline: str | None = None,
    trouble: str | None = None,
    asked: bool = True,
    registered: Any = True,
    per_day: str = "10",
) -> Any:
    account = SimpleNamespace(key=ProviderKey("ionq"), offline_because=offline)
    budget = Budget(account.key, BudgetSettings(per_day=Decimal(per_day), per_month=Decimal(100)), clock=lambda: NOW)
    neurons = {Hotkey("5Us"): object()} if registered else {}
    known = Metagraph(48, 1, NOW, neurons)  # pyright: ignore[reportArgumentType]
    return SimpleNamespace(
        fleet=SimpleNamespace(accounts=[account], budgets=Budgets([budget])),
        heartbeat=SimpleNamespace(
            trouble={} if trouble is None else {account.key: trouble},
            devices_of={account.key: ["a device"] if asked else []}.get,
        ),
        watch=SimpleNamespace(current=None if registered is None else known),
        signer=SimpleNamespace(hotkey=Hotkey("5Us")),
    )


def _view(parts: Any, *work: OpenWork) -> View:
    return view_of(parts, work, NOW, overdue_seconds=3600)


def test_all_is_well() -> None:
    assert _view(_parts()) == View({}, set())


@pytest.mark.parametrize(
    ("parts", "key", "words"),
    [
        (_parts(offline="no network"), DOWN, "ionq cannot be used: no network"),
        (_parts(trouble="401"), DOWN, "ionq cannot be used: 401"),
        (_parts(registered=False), "deregistered", "5Us is not registered"),
    ],
)
def test_what_is_wrong_around_it(parts: Any, key: str, words: str) -> None:
    view = _view(parts)
    assert list(view.troubles) == [key]
    assert words in view.troubles[key]


def test_what_was_not_asked_is_unknown() -> None:
    assert _view(_parts(asked=False, registered=None)) == View({}, {DOWN, "deregistered"})


def test_a_budget_is_told_from_its_alert_on() -> None:
    parts = _parts()
    budget = parts.fleet.budgets.of(ProviderKey("ionq"))
    budget.reserve(ExecutionId("a"), Money(Decimal("7.9"), "USD"))
    assert _view(parts).troubles == {}
    budget.reserve(ExecutionId("b"), Money(Decimal("0.1"), "USD"))
    view = _view(parts)
    assert list(view.troubles) == ["budget:ionq/day"]
    assert "80%: 8.0 of 10 USD" in view.troubles["budget:ionq/day"]


def test_a_budget_is_compared_exactly() -> None:
    """As a float 80 % of 0.4 is a little more than 0.32: four jobs at 0.08 were not told."""
    parts = _parts(per_day="0.4")
    parts.fleet.budgets.of(ProviderKey("ionq")).reserve(ExecutionId("a"), Money(Decimal("0.32"), "USD"))
    assert list(_view(parts).troubles) == ["budget:ionq/day"]


def test_held_jobs_are_counted_for_each_account() -> None:
    one = OpenWork(State.HELD, ProviderKey("ionq"), DeviceId("a"), 2, NOW, None)
    view = _view(_parts(), one, replace(one, device_id=DeviceId("b")), replace(one, account=None, jobs=1))
    assert list(view.troubles) == ["held_jobs:ionq", "held_jobs"]
    assert "(4 now)" in view.troubles["held_jobs:ionq"]


def test_a_delivery_is_told_when_it_is_overdue() -> None:
    young = OpenWork(State.SETTLED, ProviderKey("ionq"), None, 3, NOW, NOW - timedelta(seconds=3599))
    assert _view(_parts(), young).troubles == {}
    old = replace(young, account=None, jobs=1, oldest_settled_at=NOW - timedelta(seconds=3600))
    view = _view(_parts(), young, old)
    assert list(view.troubles) == ["delivery_overdue"]
    assert "4 results wait" in view.troubles["delivery_overdue"]
