"""IBM's REST API, as far as we use it: the log-in, the errors, and the records that come back.

IBM's own client is not used for HTTP. It sends a job again by itself after a 5xx, waits without limit, reads the
environment, reports its callers, and falls back to sending the API key itself when the log-in fails
(qiskit-ibm-runtime 0.51, ``api/session.py``, ``api/auth.py``). Paths, headers and fields are those of that client.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field
from typing_extensions import override

from qcompute.connections.credentials import Secret
from qcompute.errors import AuthFailed, BadReply, Unavailable
from qcompute.vendor.http import Timeouts, VendorHttp, read, retry_after_seconds, usual_words

API_VERSION: Final = "2026-04-15"
"""What the paths and fields below were read from; IBM keeps old versions."""

IAM_URL: Final = "https://iam.cloud.ibm.com"

PAGE: Final = 200
"""The most jobs IBM lists at once."""

_GRANT: Final = "urn:ibm:params:oauth:grant-type:apikey"
_EXPIRES_EARLY_SECONDS: Final = 60.0
_BAD_KEY: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def api_url(instance: str) -> str:
    """The API's base URL for the instance with this CRN: each region has its own."""
    region = instance.split(":")[5]
    return f"https://{'' if region == 'us-east' else f'{region}.'}quantum.cloud.ibm.com/api/v1"


def job_path(job_id: str) -> str:
    """The path of a job, whatever its id."""
    return f"/jobs/{quote(job_id, safe='')}"


class State(BaseModel):
    """Where a job is. ``reason_code`` 1305: it ran longer than it was allowed to."""

    status: str
    reason: str | None = None
    reason_code: int | None = None


class Job(BaseModel):
    """One job, as lists and ``GET /jobs/{id}`` give it."""

    id: str
    backend: str | None = None
    state: State | None = None
    status: str | None = None
    created: str | None = None
    ended: str | None = None
    tags: list[str] | None = None

    @property
    def word(self) -> str:
        """IBM's status word."""
        return self.state.status if self.state is not None else self.status or ""


class JobPage(BaseModel):
    """A page of jobs; ``count`` is of all pages."""

    jobs: list[Job]
    count: int | None = None


class Created(BaseModel):
    """The answer to a submit."""

    id: str = Field(min_length=1)


class Usage(BaseModel):
    """Time on the quantum computer, in seconds. Until ``status`` is other than ``pending`` it may still grow."""

    qpu_charge_time_seconds: float | None = None
    quantum_seconds: float | None = None
    seconds: float | None = None
    status: str | None = None

    @property
    def charged_seconds(self) -> float | None:
        """What IBM charges for; None while that is not known: a 0 that may grow says nothing."""
        given = (self.qpu_charge_time_seconds, self.quantum_seconds, self.seconds)
        seconds = next((seconds for seconds in given if seconds is not None), None)
        return None if self.status == "pending" and not seconds else seconds


class Moments(BaseModel):
    """RFC 3339."""

    created: str | None = None
    running: str | None = None
    finished: str | None = None


class Metrics(BaseModel):
    """What a job used, and when."""

    usage: Usage = Field(default_factory=Usage)
    timestamps: Moments = Field(default_factory=Moments)


class BackendStatus(BaseModel):
    """``internal``: accepts jobs and does not run them."""

    name: str = ""
    reason: str | None = None


class Backend(BaseModel):
    """One device in the list of all; a ``mock`` is a dry run's."""

    name: str
    status: BackendStatus = Field(default_factory=BackendStatus)
    is_simulator: bool = False
    queue_length: int | None = None
    kind: str | None = Field(default=None, alias="class")


class Backends(BaseModel):
    """All devices of an instance."""

    devices: list[Backend]


class InstanceUsage(BaseModel):
    """An instance whose limit is reached takes jobs and lets them wait."""

    usage_limit_reached: bool = False
    usage_consumed_seconds: float | None = None
    usage_limit_seconds: float | None = None

    @property
    def text(self) -> str:
        """For people."""
        used = "?" if self.usage_consumed_seconds is None else f"{self.usage_consumed_seconds:.0f}"
        most = "no limit" if self.usage_limit_seconds is None else f"{self.usage_limit_seconds:.0f} s"
        return f"{used} s of quantum time used in this period, limit: {most}"


class Configuration(BaseModel):
    """What a device can do; ``coupling_map`` holds directed pairs."""

    n_qubits: int
    basis_gates: list[str]
    coupling_map: list[tuple[int, int]] | None = None
    max_shots: int | None = None
    supported_features: list[str] = []
    supported_instructions: list[str] = []
    multi_meas_enabled: bool = False
    processor_type: dict[str, Any] | None = None


class Reading(BaseModel):
    """One calibrated number."""

    name: str
    unit: str = ""
    value: float


class GateReadings(BaseModel):
    """Of one gate on the given qubits."""

    gate: str
    qubits: list[int]
    parameters: list[Reading]


class Properties(BaseModel):
    """The last calibration; simulators have none."""

    last_update_date: str | None = None
    qubits: list[list[Reading]] = []
    gates: list[GateReadings] = []


class IbmHttp(VendorHttp):
    """`VendorHttp` for one instance: logs in when needed, with ``api_key``, and finds IBM's words in its errors."""

    def __init__(self, base_url: str, iam_url: str, *, api_key: Secret, instance: str, timeouts: Timeouts) -> None:
        super().__init__(
            "IBM",
            base_url,
            headers={"Service-CRN": instance, "IBM-API-Version": API_VERSION},
            secrets=(api_key,),
            timeouts=timeouts,
            words=_words,
        )
        self._log_in = _LogIn(iam_url, api_key, timeouts)
        self._client.auth = self._log_in

    def job(self, job_id: str) -> Job | None:
        """One job; None when IBM does not know it."""
        reply = self.get(job_path(job_id), params={"exclude_params": "true"}, accept=(HTTPStatus.NOT_FOUND,))
        return None if reply.status == HTTPStatus.NOT_FOUND else reply.read(Job, what="IBM's job")

    def jobs(self, **query: str | int) -> JobPage:
        """The first jobs that ``query`` selects, or those from ``offset`` on."""
        reply = self.get("/jobs", params={"limit": PAGE, "exclude_params": "true"} | query)
        return reply.read(JobPage, what="IBM's list of jobs")

    def metrics(self, job_id: str) -> Metrics:
        """What a job used; nothing is known when IBM does not say it in a way we understand.

        A result that was paid for is not given up because its bill cannot be read.
        """
        reply = self.get(f"{job_path(job_id)}/metrics", accept=(HTTPStatus.NOT_FOUND,))
        try:
            return reply.read(Metrics, what="IBM's metrics")
        except BadReply:
            return Metrics()

    def all_jobs(self, **query: str | int) -> Iterator[Job]:
        """All jobs that ``query`` selects, page by page."""
        offset = 0
        while True:
            page = self.jobs(**query, offset=offset)
            yield from page.jobs
            offset += len(page.jobs)
            if not page.jobs or offset >= (page.count or 0):
                return

    @override
    def close(self) -> None:
        super().close()
        self._log_in.close()


class _AccessToken(BaseModel):
    access_token: str
    expires_in: float


class _LogIn(httpx.Auth):
    """Exchanges the API key for an access token, which lives an hour, and puts it on each request.

    A token that is refused early (a revoked one) is replaced. Reading is repeated with the new one at once; anything
    else is left to the caller, so that nothing but its own decision sends it again.
    """

    def __init__(self, url: str, api_key: Secret, timeouts: Timeouts) -> None:
        self._api_key = api_key
        self._lock = threading.Lock()
        self._token: str | None = None
        self._until = 0.0
        self._client = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(timeouts.read_seconds, connect=timeouts.connect_seconds),
            trust_env=False,
            follow_redirects=False,
        )

    @override
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token, fresh = self._current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != HTTPStatus.UNAUTHORIZED or fresh:
            return
        self._forget(token)
        if request.method != "GET":
            raise Unavailable("IBM's access token has ended early; the next call logs in again")
        request.headers["Authorization"] = f"Bearer {self._current()[0]}"
        yield request

    def close(self) -> None:
        """Close the connection to the log-in."""
        self._client.close()

    def _current(self) -> tuple[str, bool]:
        """An access token, and whether it was fetched for this call."""
        with self._lock:
            if self._token is not None and time.monotonic() < self._until:
                return self._token, False
            answer = self._fetched()
            self._token = answer.access_token
            self._until = time.monotonic() + answer.expires_in - _EXPIRES_EARLY_SECONDS
            return self._token, True

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._token = None

    def _fetched(self) -> _AccessToken:
        form = {"grant_type": _GRANT, "apikey": self._api_key.reveal(), "response_type": "cloud_iam"}
        try:
            response = self._client.post("/identity/token", data=form, headers={"Accept": "application/json"})
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(f"IBM's log-in gave no answer ({type(error).__name__})") from None
        if response.status_code in _BAD_KEY:
            raise AuthFailed(f"IBM's log-in answered {response.status_code}: is the API key right?")
        if not response.is_success:
            raise Unavailable(
                f"IBM's log-in answered {response.status_code}",
                retry_after_seconds=retry_after_seconds(response.headers),
            )
        try:
            body = json.loads(response.content)
        except ValueError:
            raise Unavailable("IBM's log-in answered with something that is not JSON") from None
        return read(_AccessToken, body, what="IBM's log-in")


def _words(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """``{"errors": [{"code", "message", "solution"}]}`` as documented, or the older single ``error``."""
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], Mapping):
        return usual_words(cast("Mapping[str, Any]", errors[0]))
    return usual_words(body)
