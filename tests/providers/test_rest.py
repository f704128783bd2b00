"""Endpoints with ``POST /run-circuit``: the contract in three forms, and what is their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Protocol

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect, Target
from qcompute.connections.credentials import Secret
from qcompute.errors import (
    AuthFailed,
    BadReply,
    CannotRun,
    ConfigError,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.miner.providers.base import (
    Absent,
    CannotTell,
    Found,
    JobHandle,
    JobReceipt,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
    Verb,
)
from qcompute.miner.providers.registry import open_adapter
from qcompute.miner.providers.rest import _BYTES_PER_COUNT, RestAdapter, size_of
from qcompute.testing.provider_contract import ASYMMETRIC, ProviderContract
from qcompute.units import IdempotencyToken, Money
from qcompute.vendor.rest.settings import RestConfig
from tests.doubles.rest import KIT, TOKEN, RestDouble
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import shared

X = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nx q[0];\nmeasure q -> c;\n'


def config(double: VendorDouble, **more: object) -> RestConfig:
    given = {"base_urls": (double.url,), "token": Secret("rest", TOKEN), "read_seconds": 1.0, "submit_seconds": 1.5}
    return RestConfig.model_validate(given | more)


def warm() -> None:
    """Starting the simulator takes longer than these tests' timeouts."""
    shared("tests.doubles.aer_worker").ask({"language": "openqasm2", "text": X, "shots": 1})


class _Contract(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = (TOKEN,)

    @pytest.fixture
    def vendor(self) -> Iterator[RestDouble]:
        warm()
        with self.double() as started:
            yield started

    @pytest.fixture
    def adapter(self, vendor: RestDouble) -> Iterator[ProviderAdapter]:
        made = RestAdapter(config(vendor, **self.settings()))
        yield made
        made.close()

    def double(self) -> RestDouble:
        raise NotImplementedError

    def settings(self) -> dict[str, object]:
        return {}


class TestAsynchronous(_Contract):
    """A job id at once, the result later."""

    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    def double(self) -> RestDouble:
        return RestDouble(asynchronous=True)

    def settings(self) -> dict[str, object]:
        return {"idempotency": "token", "keeps_jobs": True}


class TestAtOnce(_Contract):
    """The result in the answer, and nothing else: all the specification asks for."""

    calls: ClassVar[Mapping[Verb, str]] = {Verb.SUBMIT: KIT.calls[Verb.SUBMIT]}

    def double(self) -> RestDouble:
        double = RestDouble(honours_keys=False, has_jobs=False)
        double.gives_ids = False
        return double


class TestAtOnceWithKeys(_Contract):
    """The result in the answer, of an endpoint that honours keys and lists jobs by them; keys of counts reversed."""

    calls: ClassVar[Mapping[Verb, str]] = {Verb.SUBMIT: KIT.calls[Verb.SUBMIT]}

    def double(self) -> RestDouble:
        double = RestDouble()
        double.big = True
        return double

    def settings(self) -> dict[str, object]:
        return {"idempotency": "token", "dialect": "openqasm2", "bit_order": "big"}


# ---- an endpoint that says what it is told to ----

MEASUREMENT = MeasurementMap(
    registers=(Register(name="c0", size=1), Register(name="c1", size=2)), measured=((0, 2), (1, 0), (2, 1))
)
COUNTS = {"010": 60, "110": 40}


class Told(VendorDouble):
    """Answers every request with ``answers[METHOD]``: a status and a body. Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    async def execute(self, job: VendorJob) -> Any:
        raise NotImplementedError

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append((f"{request.method} {request.raw_path}", dict(request.headers), body))
        status, answer = self.answers.get(request.method, (200, {}))
        if isinstance(answer, bytes):
            return web.Response(status=status, body=answer)
        return web.json_response(answer, status=status)

    @property
    def lines(self) -> list[str]:
        return [line for line, _, _ in self.requests]


@pytest.fixture
def told() -> Iterator[Told]:
    with Told() as started:
        yield started


class Make(Protocol):
    def __call__(self, **settings: object) -> RestAdapter: ...


@pytest.fixture
def make(told: Told) -> Iterator[Make]:
    made: list[RestAdapter] = []

    def one(**settings: object) -> RestAdapter:
        made.append(RestAdapter(config(told, **settings)))
        return made[-1]

    yield one
    for adapter in made:
        adapter.close()


def submitted(adapter: RestAdapter, told: Told, answer: Any, *, status: int = 200, **more: Any) -> JobHandle:
    """The handle of a circuit that was answered so, as it comes back from the ledger."""
    told.answers["POST"] = (status, answer)
    handle = adapter.submit(X, shots=100, token=IdempotencyToken("t-1"), **more)
    stored = json.dumps(handle.model_copy(update={"measurement": MEASUREMENT}).model_dump(mode="json"))
    return JobHandle.model_validate(json.loads(stored))


def receipt_of(adapter: RestAdapter, told: Told, answer: Any) -> JobReceipt:
    return adapter.get_job_receipt(submitted(adapter, told, answer))


def counted(receipt: JobReceipt) -> Any:
    return (receipt.results or {})["measurementCounts"]


def metadata(receipt: JobReceipt) -> dict[str, Any]:
    return receipt.metadata or {}


# ---- what is sent ----


def test_a_circuit_is_posted_as_the_specification_says(told: Told, make: Make) -> None:
    submitted(make(), told, {"counts": COUNTS})
    ((line, headers, body),) = told.requests
    assert line == "POST /run-circuit"
    assert body == {"qasm": X, "shots": 100}
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Idempotency-Key"] == "t-1"


def test_names_and_further_fields_are_settings(told: Told, make: Make) -> None:
    adapter = make(
        base_urls=f"{told.url}/v2/",
        token=None,
        run_path="/execute",
        circuit_field="circuit",
        shots_field="n",
        seed_field="seed",
        body={"backend": "cpu", "n": 7},
    )
    submitted(adapter, told, {"counts": COUNTS}, options=JobOptions(seed=3))
    submitted(adapter, told, {"counts": COUNTS}, options=JobOptions())
    (line, headers, body), (_, _, second) = told.requests
    assert line == "POST /v2/execute"
    assert body == {"backend": "cpu", "circuit": X, "n": 100, "seed": 3}
    assert "seed" not in second
    assert "Authorization" not in headers


def test_without_shots_or_token(told: Told, make: Make) -> None:
    told.answers["POST"] = (200, {"counts": COUNTS})
    handle = make().submit(X)
    ((_, headers, body),) = told.requests
    assert body["shots"] == 1024
    assert "Idempotency-Key" not in headers
    assert handle.provider_job_id.startswith("rest_1-")


def test_a_device_there_is_not(told: Told, make: Make) -> None:
    with pytest.raises(Refused, match="rest_2"):
        make().submit(X, "rest_2", 1)
    assert told.requests == []


# ---- a result that comes at once ----


def test_it_outlives_the_endpoint_and_the_daemon(told: Told, make: Make) -> None:
    handle = submitted(make(), told, {"counts": COUNTS, "cost": 0.5})
    told.call(told.stop())
    adapter = make()
    assert handle.provider_job_id == "t-1"
    assert adapter.poll(handle).status == ProviderStatus.COMPLETED
    assert counted(adapter.get_job_receipt(handle)) == COUNTS
    adapter.cancel(handle)


def test_a_job_id_for_later(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j-1"}, status=202)
    told.answers["GET"] = (200, {"status": "running", "queue_position": 3, "eta_seconds": 9, "message": "soon"})
    status = adapter.poll(handle)
    assert (status.status, status.queue_position, status.eta_seconds) == (ProviderStatus.RUNNING, 3, 9)
    assert told.lines[-1] == "GET /jobs/j-1"
    assert handle.model_extra is not None
    assert handle.model_extra["answer"] is None


def test_a_failure_at_once_is_kept_with_its_text(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"status": "error", "error": f"no gate u2 {TOKEN}\x00"})
    status, receipt = adapter.poll(handle), adapter.get_job_receipt(handle)
    assert (status.status, status.message) == (ProviderStatus.FAILED, "no gate u2 ***")
    assert (receipt.status, receipt.results, receipt.cost) == (ProviderStatus.FAILED, None, None)
    assert metadata(receipt)["message"] == "no gate u2 ***"


def test_a_result_too_large_is_fetched_later(told: Told, make: Make) -> None:
    adapter = make(max_result_bytes=1024, keeps_jobs=True)
    large = {"id": 7, "counts": {f"{n:010b}": 1 for n in range(100)}}
    handle = submitted(adapter, told, large)
    told.answers["GET"] = (200, large)
    assert handle.provider_job_id == "7"
    assert len(handle.model_dump_json()) < 1024
    assert adapter.poll(handle).status == ProviderStatus.COMPLETED
    assert told.lines[-1] == "GET /jobs/7"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "no JSON object"),
        ([1], "no JSON object"),
        ({}, "neither"),
        ({"status": "completed"}, "neither"),
        ({"status": "running"}, "neither"),
        ({"error": "out of memory"}, "out of memory"),
        ({"job_id": "..", "status": "queued"}, "neither"),
        ({"job_id": "a b"}, "neither"),
        ({"job_id": "x" * 201}, "neither"),
        ({"counts": {f"{n:010b}": 1 for n in range(100)}}, "kept"),
        (b"", "no JSON object"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_paid_answer_nothing_can_be_made_of(told: Told, make: Make, answer: Any, said: str) -> None:
    with pytest.raises(SubmitUnknown, match=said):
        submitted(make(max_result_bytes=1024), told, answer)


def test_409_is_no_refusal(told: Told, make: Make) -> None:
    """A job with this key is there or on its way: the other answer to it was lost."""
    with pytest.raises(SubmitUnknown, match="409"):
        submitted(make(), told, {"error": "duplicate"}, status=409)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"detail": [{"loc": ["body", "qasm"], "msg": "field required"}]}, "field required"),
        ({"detail": "no"}, "no"),
        ({"error": {"code": "E7", "message": "bad"}, "detail": "no"}, "bad"),
        ({"detail": []}, None),
        ({"detail": [3]}, None),
    ],
)
def test_a_refusal_in_the_endpoint_s_words(told: Told, make: Make, answer: Any, message: str | None) -> None:
    with pytest.raises(Refused) as caught:
        submitted(make(), told, answer, status=422)
    assert caught.value.message == "rest_1 answered 422" + (f": {message}" if message else "")


# ---- words ----


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("queued", "QUEUED"),
        ("pending", "QUEUED"),
        ("submitted", "QUEUED"),
        ("running", "RUNNING"),
        ("processing", "RUNNING"),
        ("executing", "RUNNING"),
        ("completed", "COMPLETED"),
        ("complete", "COMPLETED"),
        ("COMPLETED", "COMPLETED"),
        ("Done", "COMPLETED"),
        ("finished", "COMPLETED"),
        ("succeeded", "COMPLETED"),
        ("success", "COMPLETED"),
        ("ok", "COMPLETED"),
        ("failed", "FAILED"),
        ("error", "FAILED"),
        ("cancelled", "CANCELLED"),
        ("canceled", "CANCELLED"),
        ("validating", "UNKNOWN"),
        ("failed?", "UNKNOWN"),
        ("", "UNKNOWN"),
        (None, "UNKNOWN"),
        (7, "UNKNOWN"),
    ],
)
def test_every_word(told: Told, make: Make, word: Any, status: str) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (200, {"job_id": "j", "status": word})
    assert adapter.poll(handle).status == status


def test_a_word_nobody_knows_is_passed_on(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (200, {"status": "transmogrified", "error": "x"})
    assert adapter.poll(handle).message == "transmogrified: x"
    told.answers["GET"] = (200, {"status": "w" * 500})
    assert adapter.poll(handle).message == "w" * 64
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.status, receipt.results) == (ProviderStatus.UNKNOWN, None)


@pytest.mark.parametrize("status", [404, 410])
def test_a_job_that_is_gone(told: Told, make: Make, status: int) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (status, {"error": "gone"})
    assert adapter.poll(handle).status == ProviderStatus.UNKNOWN
    with pytest.raises(BadReply, match="any more"):
        adapter.get_job_receipt(handle)


@pytest.mark.parametrize("status", [200, 202, 404, 405, 409, 410, 501])
def test_cancelling_is_asked_for_and_may_be_too_late(told: Told, make: Make, status: int) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "a/b?c=%2e"})
    told.answers["DELETE"] = (status, {})
    adapter.cancel(handle)
    assert told.lines[-1] == "DELETE /jobs/a%2Fb%3Fc%3D%252e"


def test_cancelling_that_fails_says_so(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["DELETE"] = (500, {})
    with pytest.raises(Unavailable):
        adapter.cancel(handle)


# ---- results ----


@pytest.mark.parametrize(
    "answer",
    [
        {"counts": COUNTS},
        {"status": "completed", "counts": {"01 0": 60, "11 0": 40}},
        {"counts": {"0x2": 60, "0x6": 40}},
        {"counts": {"010": 60.0, "110": 40, "111": 0}},
        {"job_id": 5, "result": {"counts": COUNTS}},
        COUNTS,
        {"0x2": 60, "0x6": 40},
    ],
)
def test_counts_in_every_understood_form(told: Told, make: Make, answer: Any) -> None:
    receipt = receipt_of(make(), told, answer)
    assert counted(receipt) == COUNTS
    assert (receipt.status, receipt.shots) == (ProviderStatus.COMPLETED, 100)
    assert metadata(receipt)["counts_source"] == "measured"


def test_counts_elsewhere(told: Told, make: Make) -> None:
    adapter = make(counts_field="data.histogram")
    assert counted(receipt_of(adapter, told, {"data": {"histogram": COUNTS}})) == COUNTS
    assert counted(receipt_of(adapter, told, {"data": 3, "result": {"data": {"histogram": COUNTS}}})) == COUNTS


@pytest.mark.parametrize("counts", [{"010": 60, "011": 40}, {"01 0": 60, "01 1": 40}, {"0x2": 60, "0x3": 40}])
def test_the_other_bit_order(told: Told, make: Make, counts: dict[str, int]) -> None:
    assert counted(receipt_of(make(bit_order="big"), told, {"counts": counts})) == {"010": 60, "110": 40}


@pytest.mark.parametrize(
    "counts", [{}, [], "010", {"01": 100}, {"0101": 1}, {"010": -1}, {"010": 101}, {"0x9": 1}, {"up": 1}, {"010": 0.6}]
)
def test_counts_that_cannot_be(told: Told, make: Make, counts: Any) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"counts": counts})
    assert adapter.poll(handle).status == ProviderStatus.COMPLETED
    with pytest.raises(BadReply):
        adapter.get_job_receipt(handle)


def test_a_completed_job_without_counts(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (200, {"status": "completed"})
    with pytest.raises(BadReply, match="counts"):
        adapter.get_job_receipt(handle)


def test_counts_need_to_be_read_with_the_map(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"counts": COUNTS}).model_copy(update={"measurement": None})
    with pytest.raises(BadReply, match="how its result is read"):
        adapter.get_job_receipt(handle)


def test_a_handle_that_is_not_ours(make: Make) -> None:
    handle = JobHandle.model_validate({"provider_job_id": "j", "device_id": "rest_1", "shots": "many"})
    with pytest.raises(BadReply, match="shots"):
        make().poll(handle)


# ---- money and time ----

PRICED = {"per_task": "0.30", "per_shot": "0.01", "currency": "EUR"}


@pytest.mark.parametrize(
    ("prices", "answer", "cost", "currency", "kind"),
    [
        (None, {"cost": 0.35, "currency": "CHF"}, 0.35, "CHF", "actual"),
        (None, {"cost": 2}, 2.0, "USD", "actual"),
        (PRICED, {"cost": 0}, 0.0, "EUR", "actual"),
        (PRICED, {"cost": 1, "currency": "credits"}, 1.0, "EUR", "actual"),
        (PRICED, {}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": None}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": "1.00"}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": -1}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": True}, 1.3, "EUR", "our_estimate"),
        (None, {}, None, "USD", None),
        ({"per_minute": 60}, {}, None, "USD", None),
        ({"per_minute": 60}, {"execution_seconds": 2}, 2.0, "USD", "our_estimate"),
        ({"per_minute": 60}, {"execution_time_seconds": 0.5}, 0.5, "USD", "our_estimate"),
    ],
)
def test_what_a_job_cost(  # noqa: PLR0917 - a table
    told: Told, make: Make, prices: Any, answer: dict[str, Any], cost: float | None, currency: str, kind: str | None
) -> None:
    receipt = receipt_of(make(prices=prices), told, {"counts": COUNTS, **answer})
    assert receipt.cost == cost
    assert (metadata(receipt)["currency"], metadata(receipt)["cost_kind"]) == (currency, kind)


def test_what_failed_costs_what_the_endpoint_says_or_nobody_knows(told: Told, make: Make) -> None:
    adapter = make(prices=PRICED)
    assert receipt_of(adapter, told, {"status": "failed"}).cost is None
    assert receipt_of(adapter, told, {"status": "failed", "cost": 0.1}).cost == 0.1


def prepared() -> Prepared:
    return Prepared(payload=X, compiled=ASYMMETRIC, options=JobOptions())


@pytest.mark.parametrize(
    ("prices", "estimate", "table"),
    [
        (None, None, None),
        (PRICED, Money(Decimal("1.30"), "EUR"), {"perTask": 0.3, "perShot": 0.01, "perMinute": 0.0}),
        ({"per_minute": 6}, None, {"perTask": 0.0, "perShot": 0.0, "perMinute": 6.0}),
        ({"per_task": 1, "per_minute": 6}, Money(Decimal(1), "USD"), {"perTask": 1.0, "perShot": 0.0, "perMinute": 6}),
        ({}, Money(Decimal(0), "USD"), {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.0}),
    ],
)
def test_prices(make: Make, prices: Any, estimate: Money | None, table: dict[str, float] | None) -> None:
    adapter = make(prices=prices)
    assert adapter.estimate(prepared(), adapter.list_devices()[0], 100) == estimate
    assert adapter.get_pricing() == table
    assert adapter.get_pricing("rest_9") is None
    assert adapter.price_currency() == (estimate.currency if estimate else "USD")


def test_the_endpoint_s_times(told: Told, make: Make) -> None:
    times = {
        "created_at": "2026-01-02T03:04:05Z",
        "started_at": 1767323046,
        "completed_at": "2026-01-02T04:04:07+01:00",
    }
    receipt = receipt_of(make(), told, {"counts": COUNTS, "execution_seconds": 1.5, **times})
    assert receipt.timestamps == {
        "createdAt": "2026-01-02T03:04:05+00:00",
        "startedAt": "2026-01-02T03:04:06+00:00",
        "endedAt": "2026-01-02T04:04:07+01:00",
        "executionDuration": 1.5,
    }


@pytest.mark.parametrize("value", ["yesterday", "2026-01-02T03:04:05", 1767323046000, -1, 0, [], True])
def test_times_it_does_not_say_are_ours(told: Told, make: Make, value: Any) -> None:
    before = datetime.now(UTC)
    receipt = receipt_of(make(), told, {"counts": COUNTS, "started_at": value, "execution_seconds": "long"})
    times = receipt.timestamps or {}
    assert before <= datetime.fromisoformat(times["createdAt"]) <= datetime.fromisoformat(times["endedAt"])
    assert times.get("startedAt") == ("2026-01-02T03:04:05+00:00" if value == "2026-01-02T03:04:05" else None)
    assert "executionDuration" not in times


# ---- lost and found ----


def found(adapter: RestAdapter) -> Found | Absent | CannotTell:
    return adapter.find(IdempotencyToken("t-1"), datetime.now(UTC))


def test_without_a_promise_nothing_is_looked_up(told: Told, make: Make) -> None:
    assert isinstance(found(make()), CannotTell)
    assert told.requests == []


def test_a_job_is_found_by_its_token(told: Told, make: Make) -> None:
    adapter = make(idempotency="token")
    told.answers["GET"] = (200, {"jobs": [{"id": "j", "token": "t-1", "status": "running"}]})
    answer = found(adapter)
    assert isinstance(answer, Found)
    assert told.lines == ["GET /jobs?token=t-1"]
    assert adapter.poll(answer.handles[0]).status == ProviderStatus.UNKNOWN
    assert told.lines[-1] == "GET /jobs/j"


def test_a_found_result_is_kept_too(told: Told, make: Make) -> None:
    adapter = make(idempotency="token")
    told.answers["GET"] = (200, [{"token": "t-1", "shots": 100, "counts": COUNTS}])
    answer = found(adapter)
    assert isinstance(answer, Found)
    told.call(told.stop())
    receipt = adapter.get_job_receipt(answer.handles[0].model_copy(update={"measurement": MEASUREMENT}))
    assert counted(receipt) == COUNTS
    assert receipt.shots == 100
    assert receipt.timestamps == {}


def test_a_found_result_whose_shots_nobody_says(told: Told, make: Make) -> None:
    adapter = make(idempotency="token", prices=PRICED)
    told.answers["GET"] = (200, [{"token": "t-1", "counts": COUNTS}])
    answer = found(adapter)
    assert isinstance(answer, Found)
    receipt = adapter.get_job_receipt(answer.handles[0].model_copy(update={"measurement": MEASUREMENT}))
    assert counted(receipt) == COUNTS
    assert (receipt.shots, receipt.cost) == (None, None)


def test_the_oldest_comes_first(told: Told, make: Make) -> None:
    times = {"b": "2026-01-02T03:04:05Z", "a": "2026-01-02T03:04:06Z"}
    told.answers["GET"] = (200, [{"id": i, "token": "t-1", "created_at": time} for i, time in times.items()][::-1])
    answer = found(make(idempotency="token"))
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == ["b", "a"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, [], Absent),
        (200, {"jobs": []}, Absent),
        (200, [{"id": "x", "token": "t-2"}], CannotTell),
        (200, [{"id": "x"}], CannotTell),
        (200, ["x"], CannotTell),
        (404, {}, CannotTell),
        (405, {}, CannotTell),
        (501, {}, CannotTell),
        (200, {"id": "x"}, BadReply),
        (200, "x", BadReply),
        (200, [{"token": "t-1"}], SubmitUnknown),
        (500, {}, Unavailable),
        (401, {}, AuthFailed),
        (400, {}, Refused),
    ],
)
def test_what_a_list_of_jobs_proves(told: Told, make: Make, status: int, body: Any, kind: type[object]) -> None:
    """Only an empty list is a proof: an endpoint that does not look at the token must not cause a second job."""
    told.answers["GET"] = (status, body)
    adapter = make(idempotency="token")
    if issubclass(kind, VendorError):
        with pytest.raises(kind):
            found(adapter)
    else:
        assert isinstance(found(adapter), kind)


def test_all_endpoints_are_asked(told: Told, make: Make) -> None:
    with Told() as other:
        adapter = make(base_urls=[told.url, other.url], idempotency="token")
        told.answers["GET"] = (200, [])
        other.answers["GET"] = (200, [{"id": "j", "token": "t-1"}])
        answer = found(adapter)
        assert isinstance(answer, Found)
        assert answer.handles[0].device_id == "rest_2"
        told.answers["GET"] = (500, {})
        assert isinstance(found(adapter), Found)
        other.answers["GET"] = (200, [])
        with pytest.raises(Unavailable):
            found(adapter)
        told.answers["GET"] = (404, {})
        assert found(adapter) == CannotTell("rest_1 does not list its jobs by token")


# ---- several endpoints ----


def test_a_job_stays_with_its_address(told: Told, make: Make) -> None:
    """Numbers move when an endpoint is taken out; jobs do not."""
    with Told() as gone:
        both = make(base_urls=[gone.url, told.url])
        told.answers["POST"] = gone.answers["POST"] = (202, {"job_id": "j"})
        told.answers["GET"] = (200, {"status": "running"})
        first, second = both.submit(X, "rest_1", 1), both.submit(X, "rest_2", 1)
        alone = make()
        gone.requests.clear()
        assert alone.poll(second).status == ProviderStatus.RUNNING
        assert alone.poll(first).status == ProviderStatus.UNKNOWN
        with pytest.raises(BadReply):
            alone.get_job_receipt(first)
        alone.cancel(first)
        assert gone.requests == []


def test_what_holds_for_one_endpoint(told: Told, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LUMI", "lumi-token")
    lumi = {
        "url": f"{told.url}/lumi",
        "token": "lumi",
        "num_qubits": 5,
        "device_type": "QPU",
        "basis_gates": ["cz", "rz", "sx"],
        "coupling_map": [[0, 1]],
        "prices": {"per_task": 2},
    }
    adapter = make(nodes={"lumi": lumi}, max_shots=500, can_branch=True, optimization_level=2)
    assert [(device.device_id, device.device_type) for device in adapter.list_devices()] == [
        ("rest_1", "SIMULATOR"),
        ("lumi", "QPU"),
    ]
    one, other = adapter.list_capabilities()
    assert (one.num_qubits, one.basis_gates, other.num_qubits, other.basis_gates) == (30, None, 5, ["cz", "rz", "sx"])
    assert other.extras == {
        "native_gates": None,
        "coupling_map": ((0, 1),),
        "max_shots": 500,
        "can_measure_mid_circuit": False,
        "can_branch": True,
    }
    assert adapter.get_capability("nobody") is None
    assert adapter.get_pricing() is None
    assert adapter.get_pricing("lumi") == {"perTask": 2.0, "perShot": 0.0, "perMinute": 0.0}
    assert adapter.target(adapter.list_devices()[1], JobOptions()) == Target(
        dialect=Dialect.OPENQASM_3,
        num_qubits=5,
        basis_gates=("cz", "rz", "sx"),
        coupling_map=((0, 1),),
        can_branch=True,
        optimization_level=2,
    )
    told.answers["POST"] = (202, {"job_id": "j"})
    adapter.submit(X, "lumi", 1)
    line, headers, _ = told.requests[-1]
    assert (line, headers["Authorization"]) == ("POST /lumi/run-circuit", "Bearer lumi-token")


def test_limits(make: Make) -> None:
    limits = make(max_running_jobs=4, poll_interval_seconds=0.5).limits()
    assert (limits.max_running_jobs, limits.poll_interval_seconds, limits.max_pack) == (4, 0.5, 1)


@pytest.mark.parametrize(
    ("settings", "shots", "clbits", "reason"),
    [
        ({}, 100_000, 30, None),
        ({}, 1_000_000, 3, None),
        ({}, 1_000_000, 30, "too_many_shots"),
        ({}, 10_000, 4096, "too_many_shots"),
        ({"keeps_jobs": True}, 1_000_000, 4096, None),
        ({"max_shots": 1000}, 1000, 3, None),
        ({"max_shots": 1000}, 1001, 3, "too_many_shots"),
        ({"num_qubits": 2}, 1, 3, "too_wide"),
    ],
)
def test_what_can_never_be_run_is_refused_unpaid(
    make: Make, settings: dict[str, object], shots: int, clbits: int, reason: str | None
) -> None:
    adapter = make(**settings)
    circuit = ASYMMETRIC.model_copy(update={"num_clbits": clbits})
    if reason is None:
        adapter.check(circuit, adapter.list_devices()[0], shots)
        return
    with pytest.raises(CannotRun) as caught:
        adapter.check(circuit, adapter.list_devices()[0], shots)
    assert caught.value.reason == reason


@given(st.dictionaries(st.text("01", min_size=30, max_size=30), st.integers(0, 10**6), max_size=50))
def test_the_bound_holds_for_what_is_kept(counts: dict[str, int]) -> None:
    """What passes the check fits into the handle, however the shots fall."""
    assert size_of(counts) <= len(counts) * (30 + 1 + _BYTES_PER_COUNT) + 2


# ---- health ----


@pytest.mark.parametrize(
    ("body", "state", "message", "pending"),
    [
        ({"status": "ok"}, "ONLINE", "ok", None),
        ({"status": "healthy", "pending_jobs": 4}, "ONLINE", "healthy", 4),
        ({"status": "Degraded", "message": "one GPU is down"}, "DEGRADED", "one GPU is down", None),
        ({"status": "maintenance"}, "MAINTENANCE", "maintenance", None),
        ({"status": "unhealthy"}, "OFFLINE", "unhealthy", None),
        ({"status": "down"}, "OFFLINE", "down", None),
        ({"status": 1, "pending_jobs": "many"}, "ONLINE", "up", None),
        ({}, "ONLINE", "up", None),
        ([], "ONLINE", "up", None),
        (b"", "ONLINE", "up", None),
        (b"OK", "ONLINE", "up", None),
    ],
)
def test_health_in_the_endpoint_s_words(
    told: Told, make: Make, *, body: Any, state: str, message: str, pending: int | None
) -> None:
    told.answers["GET"] = (200, body)
    said = make().get_availability()
    assert said is not None
    assert (said.availability, said.status_msg, said.pending_jobs) == (state, message, pending)
    assert said.is_available is (state in ("ONLINE", "DEGRADED"))
    assert told.lines == ["GET /health"]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, {"error": "broken"}, "rest_1 answered 500: broken"),
        (401, {}, "rest_1 answered 401"),
        (404, {}, "rest_1 answered 404; is health_path right?"),
        (200, b"<html>soon", "rest_1 answered 200 with something that is not JSON but a web page: maintenance?"),
    ],
)
def test_an_endpoint_that_is_not_well(told: Told, make: Make, status: int, body: Any, message: str) -> None:
    told.answers["GET"] = (status, body)
    said = make().get_availability("rest_1")
    assert said is not None
    assert (said.availability, said.is_available, said.status_msg) == ("OFFLINE", False, message)


def test_one_endpoint_fails_and_comes_back(told: Told, make: Make) -> None:
    with Told() as other:
        adapter = make(base_urls=[told.url, other.url], health_seconds=0)
        told.call(told.stop())
        down, up = adapter.get_availability("rest_1"), adapter.get_availability("rest_2")
        assert down is not None
        assert up is not None
        assert (down.availability, up.availability) == ("OFFLINE", "ONLINE")
        assert down.status_msg == "rest_1 cannot be reached (ConnectError)"
        told.call(told.start())
        back = adapter.get_availability("rest_1")
        assert back is not None
        assert back.availability == "ONLINE"


def test_health_is_not_asked_at_every_turn(told: Told, make: Make) -> None:
    adapter = make(health_seconds=60)
    first = adapter.get_availability()
    told.answers["GET"] = (500, {})
    assert adapter.get_availability() == first
    assert len(told.requests) == 1


def test_health_can_be_left_out(told: Told, make: Make) -> None:
    said = make(health_path="").get_availability()
    assert said is not None
    assert (said.availability, said.status_msg) == ("ONLINE", "not asked")
    assert told.requests == []


def test_nobody_s_health(make: Make) -> None:
    assert make().get_availability("rest_2") is None


# ---- settings ----


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "at least one endpoint"),
        ({"base_urls": ["ftp://a"]}, "http(s)://"),
        ({"base_urls": ["http://"]}, "http(s)://"),
        ({"base_urls": ["http://a:99999"]}, "http(s)://"),
        ({"base_urls": ["http://[a"]}, "http(s)://"),
        ({"base_urls": ["http://a?key=1"]}, "http(s)://"),
        ({"base_urls": ["http://me:pw@a"]}, "no password"),
        ({"base_urls": ["http://a", "http://a/"]}, "named twice"),
        ({"base_urls": ["http://a"], "nodes": {"rest_1": {"url": "http://b"}}}, "named like"),
        ({"nodes": {"No Good": {"url": "http://b"}}}, "pattern"),
        ({"nodes": {"b": {"url": "http://b", "color": "red"}}}, "Extra"),
        ({"base_urls": ["http://a"], "token": "rest"}, "QCOMPUTE_SECRET_REST"),
        ({"base_urls": ["http://a"], "idempotency": "tag"}, "'token' or 'none'"),
        ({"base_urls": ["http://a"], "dialect": "qpy"}, "openqasm2"),
        ({"base_urls": ["http://a"], "run_path": "run"}, "pattern"),
        ({"base_urls": ["http://a"], "token_name": "x"}, "did you mean token"),
        (
            {
                "base_urls": ["http://a"],
                "prices": {"currency": "EUR"},
                "nodes": {"b": {"url": "http://b", "prices": {"currency": "USD"}}},
            },
            "one currency",
        ),
    ],
)
def test_settings_that_cannot_be(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_adapter("rest", table)
    assert said in caught.value.message
    assert "pw" not in caught.value.message


def test_opened_as_the_daemon_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_REST", TOKEN)
    adapter = open_adapter("rest", {"base_urls": "http://a:8888, https://b/api/", "token": "rest"})
    assert [device.device_id for device in adapter.list_devices()] == ["rest_1", "rest_2"]
    assert TOKEN not in repr(adapter) + repr(vars(adapter))
    adapter.close()


def test_a_token_no_header_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_REST", "line one\nline two")
    with pytest.raises(ConfigError, match="Authorization"):
        open_adapter("rest", {"base_urls": "http://a", "token": "rest"})
