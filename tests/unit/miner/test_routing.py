"""How a device is chosen: every order has its reasons, and a simulator never answers for a QPU by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.program import JobOptions
from qcompute.circuits.success import Success
from qcompute.errors import CannotRun
from qcompute.miner.placement import MAX_CANDIDATES, MAX_REASON, Placement, Policy
from qcompute.miner.routing import DeviceType, Option, Question, Refusal, RoutingSettings, Unplaced, Wish, ranked
from qcompute.units import ExecutionId, Money

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOO_WIDE = Refusal("too_wide", "the circuit has 9 qubits and the device has 5")
DOWN = Refusal("unavailable", "no answer", is_for_now=True)


def qpu(account: str, place: int, device_id: str = "q", **facts: Any) -> Option:
    return Option(account=account, place=place, device_id=device_id, device_type="QPU", **facts)


def simulator(account: str, place: int, device_id: str = "s", **facts: Any) -> Option:
    return Option(account=account, place=place, device_id=device_id, device_type="SIMULATOR", **facts)


def unasked(account: str, place: int) -> Option:
    return Option(account=account, place=place, device_id=None, device_type=None, refusal=DOWN)


def asking(execution_id: str = "job-1", *, waited: float = 0.0, **configuration: Any) -> Question:
    wish = Wish.of(JobOptions.of(configuration))
    return Question(ExecutionId(execution_id), NOW, waited_seconds=waited, wish=wish)


def placed(options: Sequence[Option], question: Question | None = None, **settings: object) -> Placement:
    answer = ranked(options, question or asking(), RoutingSettings.model_validate(settings))
    assert isinstance(answer, Placement), answer
    return answer


def unplaced(options: Sequence[Option], question: Question | None = None, **settings: object) -> Unplaced:
    answer = ranked(options, question or asking(), RoutingSettings.model_validate(settings))
    assert isinstance(answer, Unplaced), answer
    return answer


def names(placement: Placement) -> list[str]:
    return [candidate.name for candidate in placement.candidates]


def dollars(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


# ---- policies ----


def test_by_itself_the_operators_order_decides() -> None:
    made = placed([qpu("b", 1), qpu("a", 0), qpu("c", 2)])
    assert names(made) == ["a/q", "b/q", "c/q"]
    assert made.policy is Policy.ORDER
    assert "place 1 in the operator's order" in made.current.reason


@pytest.mark.parametrize("policy", Policy)
def test_an_available_device_goes_before_one_that_is_not(policy: Policy) -> None:
    better = qpu(
        "a", 0, is_available=False, pending_jobs=0, estimate=dollars("0"), success=Success(1.0), next_available=NOW
    )
    worse = qpu("b", 1, is_available=True, pending_jobs=90, estimate=dollars("9"), success=Success(0.1))
    made = placed([better, worse], policy=policy)
    assert names(made) == ["b/q", "a/q"]
    assert "not available before 2026-11-21 12:00 UTC" in made.candidates[1].reason


def test_nobody_knowing_whether_it_is_available_counts_as_available() -> None:
    assert names(placed([qpu("a", 0, is_available=None), qpu("b", 1, is_available=True)])) == ["a/q", "b/q"]


def test_the_fastest_is_where_a_job_starts_first() -> None:
    made = placed(
        [
            qpu("long", 0, pending_jobs=40, job_seconds=10.0),
            qpu("short", 1, pending_jobs=3, job_seconds=10.0),
            qpu("vendor_says", 2, pending_jobs=0, queue_seconds=100.0),
            qpu("silent", 3),
        ],
        policy="fastest",
    )
    assert names(made) == ["short/q", "vendor_says/q", "long/q", "silent/q"]
    assert (
        made.current.reason
        == "fastest: starts in about 30 s, 3 jobs ahead; next starts in about 100 s, 0 jobs ahead at vendor_says/q"
    )
    assert made.candidates[-1].reason == "when it would start is not known"


def test_our_own_jobs_on_the_way_count_as_a_queue() -> None:
    """A vendor's number is seconds old: a burst of jobs would all go to the device that was empty then."""
    made = placed([qpu("a", 0, pending_jobs=0, unseen_jobs=5), qpu("b", 1, pending_jobs=3)], policy="fastest")
    assert names(made) == ["b/q", "a/q"]
    made = placed([qpu("a", 0, queue_seconds=0.0, unseen_jobs=5), qpu("b", 1, pending_jobs=3)], policy="fastest")
    assert names(made) == ["b/q", "a/q"]


def test_of_closed_devices_the_fastest_opens_first() -> None:
    closed: dict[str, Any] = {"is_available": False, "pending_jobs": 0}
    made = placed(
        [
            qpu("never", 0, **closed),
            qpu("later", 1, **closed, next_available=NOW + timedelta(hours=2)),
            qpu("soon", 2, **closed, next_available=NOW + timedelta(hours=1)),
            qpu("overdue", 3, **closed, next_available=NOW - timedelta(hours=1)),
        ],
        policy="fastest",
    )
    assert names(made) == ["overdue/q", "soon/q", "later/q", "never/q"]


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf")])
def test_a_queue_time_that_is_no_number_counts_as_not_known(nonsense: float) -> None:
    assert qpu("a", 0, queue_seconds=nonsense).starts_in_seconds(NOW) is None
    assert qpu("a", 0, queue_seconds=-3.0).starts_in_seconds(NOW) == 0.0


def test_the_cheapest_says_by_how_much() -> None:
    made = placed(
        [qpu("ionq", 0, estimate=dollars("1.20")), qpu("ibm", 1, estimate=dollars("0.35")), qpu("lab", 2)],
        policy="cheapest",
    )
    assert names(made) == ["ibm/q", "ionq/q", "lab/q"]
    assert made.current.reason == "cheapest: 0.35 USD; next 1.20 USD at ionq/q"
    assert made.candidates[2].reason == "its price is not known"


def test_currencies_are_never_compared() -> None:
    """Nine quantum seconds are not more, or less, than one dollar."""
    made = placed(
        [
            qpu("unknown", 0),
            qpu("seconds", 1, estimate=Money(Decimal("0.1"), "quantum_seconds")),
            qpu("ours", 2, estimate=dollars("9")),
        ],
        policy="cheapest",
    )
    assert names(made) == ["ours/q", "seconds/q", "unknown/q"]
    assert made.candidates[1].reason == "0.1 quantum_seconds, which cannot be compared with USD"


def test_prices_that_differ_in_the_twentieth_digit_differ() -> None:
    made = placed(
        [qpu("a", 0, estimate=dollars("0.10000000000000000002")), qpu("b", 1, estimate=dollars("0.1"))],
        policy="cheapest",
    )
    assert names(made) == ["b/q", "a/q"]


def test_the_best_fidelity_is_the_likeliest_success_and_what_is_not_known_comes_last() -> None:
    made = placed(
        [
            qpu("untold", 0, success="its error of readout is not known"),
            qpu("noisy", 1, success=Success(0.4)),
            qpu("good", 2, success=Success(0.8126)),
        ],
        policy="best_fidelity",
    )
    assert names(made) == ["good/q", "noisy/q", "untold/q"]
    assert made.current.reason.startswith("best fidelity: about 0.813 expected to run without an error; next about 0.4")
    assert made.candidates[2].reason == "its error of readout is not known"


def test_idling_counts_only_where_all_tell_it() -> None:
    """A vendor that tells its gate times must not lose to one that keeps them to itself."""
    open_, silent = qpu("open", 0, success=Success(0.9, 0.5)), qpu("silent", 1, success=Success(0.8))
    assert names(placed([open_, silent], policy="best_fidelity")) == ["open/q", "silent/q"]
    steady = qpu("steady", 2, success=Success(0.8, 0.99))
    assert names(placed([open_, steady], policy="best_fidelity")) == ["steady/q", "open/q"]


def test_turns_are_even_and_the_same_after_a_restart() -> None:
    devices = [qpu(account, place) for place, account in enumerate("abcd")]
    firsts = [placed(devices, asking(f"job-{n}"), policy="round_robin").current.name for n in range(1000)]
    assert firsts == [placed(devices, asking(f"job-{n}"), policy="round_robin").current.name for n in range(1000)]
    assert all(200 <= count <= 300 for count in Counter(firsts).values())
    assert len(Counter(firsts)) == 4


def test_when_a_device_goes_down_only_its_own_jobs_move() -> None:
    devices = [qpu(account, place) for place, account in enumerate("abcd")]
    fewer = [replace(devices[0], refusal=DOWN), *devices[1:]]
    for number in range(200):
        question = asking(f"job-{number}")
        before = placed(devices, question, policy="round_robin")
        after = placed(fewer, question, policy="round_robin")
        assert after.current.name == (before.candidates[1] if before.current.account == "a" else before.current).name


def test_a_job_may_name_its_own_policy() -> None:
    options = [qpu("a", 0, estimate=dollars("2")), qpu("b", 1, estimate=dollars("1"))]
    made = placed(options, asking(routing_policy="cheapest"))
    assert (made.policy, made.current.account) == (Policy.CHEAPEST, "b")


def test_a_policy_nobody_knows_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(CannotRun, match="routing_policy must be one of order, fastest, cheapest") as caught:
        asking(routing_policy="best")
    assert caught.value.reason == "bad_option"


@pytest.mark.parametrize("configuration", [{"tags": [1]}, {"tags": {"a": 1}}, {"node": ""}, {"routing_policy": 3}])
def test_a_wish_of_the_wrong_kind_is_refused_by_name(configuration: dict[str, Any]) -> None:
    with pytest.raises(CannotRun, match=f"configuration_data.{next(iter(configuration))}"):
        asking(**configuration)


def test_what_the_router_honours_is_not_passed_on_to_vendors() -> None:
    options = JobOptions.of({"node": "ibm", "tags": "fast", "routing_policy": "order", "resilience_level": 1})
    assert options.passed_on == {"resilience_level": 1}
    assert options.tags == ("fast",)


# ---- pins ----

FLEET = [
    qpu("ibm", 0, "torino", tags=frozenset({"us"})),
    qpu("ibm", 1, "brisbane", tags=frozenset({"us", "eagle"})),
    qpu("braket", 2, "arn:aws:braket:::device/qpu/x", tags=frozenset({"us"})),
    simulator("aer", 3, "aer_simulator", tags=frozenset({"eagle"})),
]


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({"device": "brisbane"}, ["ibm/brisbane"]),
        ({"device": "ibm/brisbane"}, ["ibm/brisbane"]),
        ({"device": "arn:aws:braket:::device/qpu/x"}, ["braket/arn:aws:braket:::device/qpu/x"]),
        ({"device": "aer_simulator"}, ["aer/aer_simulator"]),
        ({"node": "aer/aer_simulator"}, ["aer/aer_simulator"]),
        ({"node": "ibm"}, ["ibm/torino", "ibm/brisbane"]),
        ({"node": "aer"}, ["aer/aer_simulator"]),
        ({"node": "ibm", "device": "torino"}, ["ibm/torino"]),
        ({"tags": ["us"]}, ["ibm/torino", "ibm/brisbane", "braket/arn:aws:braket:::device/qpu/x"]),
        ({"tags": ["us", "eagle"]}, ["ibm/brisbane"]),
        ({"tags": "eagle"}, ["ibm/brisbane"]),
    ],
)
def test_a_pin_leaves_only_what_it_names(configuration: dict[str, Any], expected: list[str]) -> None:
    made = placed(FLEET, asking(**configuration))
    assert names(made) == expected
    assert {one.name for one in made.rejections} == {one.name for one in FLEET} - set(expected)
    assert all(one.reason for one in made.rejections)


@pytest.mark.parametrize("configuration", [{"device": "kyiv"}, {"node": "ionq"}, {"tags": ["eu"]}])
def test_a_pin_that_names_nothing_is_refused_with_what_there_is(configuration: dict[str, Any]) -> None:
    refusal = unplaced(FLEET, asking(**configuration)).refusal
    assert (refusal.code, refusal.is_for_now) == ("no_device", False)
    assert "it has ibm/torino, ibm/brisbane" in refusal.message
    assert "it has torino, brisbane" in unplaced(FLEET[:2], asking(**configuration)).refusal.message


def test_what_a_pin_leaves_out_is_told_by_the_pin_and_not_by_its_type() -> None:
    """Of a job for a device that is not there, a simulator was said to be refused because it is one."""
    answer = unplaced(FLEET, asking(device="kyiv"))
    assert {one.reason for one in answer.rejections} == {"the job asks for device kyiv"}


def test_a_tag_on_both_kinds_asks_for_the_type_of_the_first() -> None:
    """A tag says where, not that a simulator will do."""
    broken = [FLEET[0], replace(FLEET[1], refusal=TOO_WIDE), *FLEET[2:]]
    assert unplaced(broken, asking(tags=["eagle"])).refusal == TOO_WIDE


def test_a_pinned_simulator_answers_although_jobs_are_for_qpus() -> None:
    made = placed(FLEET, asking(device="aer_simulator"), device_type="QPU")
    assert (made.current.name, made.fallback_from) == ("aer/aer_simulator", None)


def test_a_pinned_device_that_may_be_of_an_account_that_cannot_be_asked_is_waited_for() -> None:
    fleet = [unasked("ibm", 0), *FLEET[2:]]
    wishes: list[dict[str, Any]] = [{"device": "torino"}, {"device": "ibm/torino"}, {"node": "ibm"}, {"tags": ["new"]}]
    for configuration in wishes:
        assert unplaced(fleet, asking(**configuration)).refusal.is_for_now, configuration
    assert unplaced(fleet, asking(device="braket/torino")).refusal.code == "no_device"
    assert names(placed(fleet, asking(device="braket/arn:aws:braket:::device/qpu/x"))) == [FLEET[2].name]


# ---- no silent fallback ----


def test_a_simulator_never_answers_for_a_qpu() -> None:
    fleet = [qpu("ibm", 0, refusal=TOO_WIDE), simulator("aer", 1)]
    answer = unplaced(fleet)
    assert answer.refusal == TOO_WIDE
    assert [one.reason for one in answer.rejections] == [
        TOO_WIDE.message,
        "it is a SIMULATOR, and the job asks for a QPU",
    ]


def test_an_outage_of_the_first_account_does_not_change_what_jobs_are_for() -> None:
    """With the QPU's account down, the first device of the second one must not decide the type."""
    fleet = [unasked("ibm", 0), simulator("aer", 1)]
    refusal = unplaced(fleet).refusal
    assert (refusal.code, refusal.is_for_now) == ("unavailable", True)
    assert "routing.device_type" in refusal.message
    assert names(placed(fleet, device_type="SIMULATOR")) == ["aer/s"]
    assert unplaced(fleet, device_type="QPU").refusal == DOWN


def test_any_type_is_any_type() -> None:
    made = placed(
        [qpu("ibm", 0, estimate=dollars("1")), simulator("aer", 1, estimate=dollars("0"))],
        device_type="any",
        policy="cheapest",
    )
    assert names(made) == ["aer/s", "ibm/q"]
    assert made.fallback_from is None


def test_a_type_in_another_spelling_is_the_same_type() -> None:
    assert names(placed([replace(qpu("a", 0), device_type="qpu"), simulator("b", 1)])) == ["a/q"]


@pytest.mark.parametrize("entry", ["aer", "aer/s", "s", "tag:ours"])
def test_a_declared_stand_in_is_behind_all_that_was_asked_for(entry: str) -> None:
    fleet = [
        qpu("ibm", 0, is_available=False, estimate=dollars("9")),
        simulator("aer", 1, estimate=dollars("0"), tags=frozenset({"ours"})),
        simulator("other", 2, "t", estimate=dollars("0")),
    ]
    made = placed(fleet, policy="cheapest", fallback=(entry,))
    assert names(made) == ["ibm/q", "aer/s"]
    assert [one.fallback_from for one in made.candidates] == [None, "a QPU"]


def test_stand_ins_come_in_their_declared_order_and_once() -> None:
    fleet = [qpu("ibm", 0), simulator("aer", 1), simulator("gpu", 2, estimate=dollars("0")), simulator("gpu", 3, "m")]
    made = placed(fleet, fallback=("gpu/m", "gpu", "aer", "s"))
    assert names(made) == ["ibm/q", "gpu/m", "gpu/s", "aer/s"]


def test_a_stand_in_answers_at_once_when_no_asked_device_can_ever_run_the_job() -> None:
    made = placed([qpu("ibm", 0, refusal=TOO_WIDE), simulator("aer", 1)], fallback=("aer",))
    assert (made.current.name, made.fallback_from) == ("aer/s", "a QPU")


def test_a_stand_in_waits_for_what_may_be_back_in_a_moment() -> None:
    fleet = [qpu("ibm", 0, refusal=DOWN), simulator("aer", 1)]
    settings: dict[str, Any] = {"fallback": ("aer",), "max_unavailable_seconds": 300}
    assert unplaced(fleet, asking(waited=299), **settings).refusal == DOWN
    assert placed(fleet, asking(waited=300), **settings).fallback_from == "a QPU"
    with_another = [*fleet, qpu("ionq", 2)]
    assert names(placed(with_another, asking(waited=299), **settings)) == ["ionq/q"]
    assert names(placed(with_another, asking(waited=300), **settings)) == ["ionq/q", "aer/s"]


def test_a_stand_in_that_cannot_run_it_either_is_none() -> None:
    fleet = [qpu("ibm", 0, refusal=TOO_WIDE), simulator("aer", 1, refusal=TOO_WIDE)]
    assert unplaced(fleet, fallback=("aer",)).refusal == TOO_WIDE


def test_a_pin_is_not_answered_by_a_stand_in() -> None:
    fleet = [qpu("ibm", 0, refusal=TOO_WIDE), simulator("aer", 1)]
    assert unplaced(fleet, asking(device="ibm/q"), fallback=("aer",)).refusal == TOO_WIDE
    assert unplaced(fleet, asking(node="ibm"), fallback=("aer",)).refusal == TOO_WIDE


# ---- refusals ----


def test_a_miner_without_devices_says_so() -> None:
    assert unplaced([]).refusal == Refusal("no_device", "this miner has no device")


def test_what_may_pass_is_waited_for() -> None:
    budget = Refusal("budget_spent", "no room", is_for_now=True)
    answer = unplaced([qpu("a", 0, refusal=TOO_WIDE), qpu("b", 1, refusal=budget), unasked("c", 2)])
    assert (answer.refusal.code, answer.refusal.is_for_now) == ("budget_spent", True)
    assert answer.refusal.message == "no room; and 2 more cannot run it"


def test_more_devices_than_a_job_ever_tries_are_counted_with_their_reasons() -> None:
    made = placed([qpu("a", place, f"d{place}") for place in range(30)])
    assert len(made.candidates) == MAX_CANDIDATES
    assert len(made.rejections) + made.rejections_not_kept == 30 - MAX_CANDIDATES
    assert made.rejections[0].reason == "there are 8 before it"


# ---- properties ----

MONEY = st.one_of(
    st.none(), st.builds(Money, st.decimals(0, 100, allow_nan=False, places=2), st.sampled_from(["USD", "EUR"]))
)
REFUSALS = st.one_of(st.none(), st.none(), st.sampled_from([TOO_WIDE, DOWN]))
OPTIONS = st.builds(
    Option,
    account=st.sampled_from(["a", "b", "c"]),
    place=st.integers(0, 5),
    device_id=st.sampled_from(["d1", "d2", "d3", "d4"]),
    device_type=st.sampled_from(["QPU", "SIMULATOR"]),
    tags=st.frozensets(st.sampled_from(["x", "y"])),
    is_available=st.sampled_from([None, True, False]),
    next_available=st.one_of(st.none(), st.just(NOW + timedelta(minutes=5))),
    pending_jobs=st.one_of(st.none(), st.integers(0, 9)),
    queue_seconds=st.one_of(st.none(), st.floats(0, 1e6)),
    estimate=MONEY,
    success=st.one_of(st.just("not known"), st.builds(Success, st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)))),
    refusal=REFUSALS,
)
FLEETS = st.lists(
    st.one_of(OPTIONS, st.builds(unasked, st.sampled_from(["d", "e"]), st.integers(0, 5))),
    max_size=14,
    unique_by=lambda option: option.name,
)
QUESTIONS = st.builds(
    Question,
    execution_id=st.sampled_from([ExecutionId("job-1"), ExecutionId("job-2")]),
    now=st.just(NOW),
    waited_seconds=st.sampled_from([0.0, 10_000.0]),
    wish=st.builds(
        Wish,
        device=st.sampled_from([None, None, "d1", "a/d2", "e/d9"]),
        node=st.sampled_from([None, None, "a", "b/d3"]),
        tags=st.frozensets(st.sampled_from(["x"])),
        policy=st.one_of(st.none(), st.sampled_from(Policy)),
    ),
)
SETTINGS = st.builds(
    RoutingSettings,
    policy=st.sampled_from(Policy),
    device_type=st.sampled_from([None, *DeviceType]),
    fallback=st.lists(st.sampled_from(["a", "b/d1", "d3", "tag:x"]), max_size=3).map(tuple),
)


@given(FLEETS, QUESTIONS, SETTINGS)
def test_every_device_is_a_candidate_or_has_a_reason_why_not(
    fleet: list[Option], question: Question, settings: RoutingSettings
) -> None:
    answer = ranked(fleet, question, settings)
    if isinstance(answer, Placement):
        chosen = names(answer)
        rejected = [one.name for one in answer.rejections]
        assert len(chosen) + len(rejected) + answer.rejections_not_kept == len(fleet)
        by_name = {option.name: option for option in fleet}
        assert all(by_name[name].refusal is None for name in chosen)
        reasons = [one.reason for one in (*answer.candidates, *answer.rejections)]
    else:
        chosen, rejected = [], [one.name for one in answer.rejections]
        assert sorted(rejected) == sorted(option.name for option in fleet)
        assert answer.refusal.message
        reasons = [one.reason for one in answer.rejections]
    assert len(set(chosen + rejected)) == len(chosen) + len(rejected)
    assert all(0 < len(reason) <= MAX_REASON for reason in reasons)


@given(FLEETS, QUESTIONS, SETTINGS, st.randoms())
def test_the_same_facts_give_the_same_order_however_they_arrive(
    fleet: list[Option], question: Question, settings: RoutingSettings, chance: Any
) -> None:
    """Accounts answer in whatever order; which device a job gets must not depend on that."""
    shuffled = list(fleet)
    chance.shuffle(shuffled)
    assert ranked(fleet, question, settings) == ranked(shuffled, question, settings)


@given(FLEETS, QUESTIONS, SETTINGS)
def test_a_type_nobody_asked_for_comes_only_as_a_declared_stand_in(
    fleet: list[Option], question: Question, settings: RoutingSettings
) -> None:
    answer = ranked(fleet, question, settings)
    if not isinstance(answer, Placement):
        return
    by_name = {option.name: option for option in fleet}
    own = [one for one in answer.candidates if one.fallback_from is None]
    stand_ins = [one for one in answer.candidates if one.fallback_from is not None]
    assert answer.candidates == (*own, *stand_ins)
    for one in stand_ins:
        option = by_name[one.name]
        assert any(
            entry in {option.account, option.device_id, option.name}
            or entry.removeprefix("tag:") in option.tags & {"x"}
            for entry in settings.fallback
        )
    wish = question.wish
    if settings.device_type is DeviceType.QPU and wish.device is None and wish.node is None:
        assert all(one.device_type == "QPU" for one in own)
        if not settings.fallback:
            assert all(one.device_type == "QPU" for one in answer.candidates)


@given(FLEETS, QUESTIONS, SETTINGS)
def test_of_one_kind_the_available_ones_come_first(
    fleet: list[Option], question: Question, settings: RoutingSettings
) -> None:
    answer = ranked(fleet, question, settings)
    if isinstance(answer, Placement):
        by_name = {option.name: option for option in fleet}
        down = [by_name[one.name].is_down for one in answer.candidates if one.fallback_from is None]
        assert down == sorted(down)
