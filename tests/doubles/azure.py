"""A workspace of Azure Quantum and its storage account, as azure-quantum 3.13 meets them (API 2026-01-15-preview).

Circuits are computed by Aer: OpenQASM 2 and IonQ's JSON as they come, QIR through a reader of its own, which takes the
base profile and nothing else. Whether Azure takes that QIR is Azure's to say.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web
from typing_extensions import override

from qcompute.miner.providers.base import Verb
from tests.doubles.kits import Kit
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import shared

API_VERSION: Final = "2026-01-15-preview"
KEY: Final = "azure-access-key-JnT3p9"
SUBSCRIPTION: Final = "11111111-2222-3333-4444-555555555555"
ACCOUNT: Final = "devstoreaccount1"
WORKSPACE: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Quantum/workspaces/ws1"

TARGETS: Final = {
    "ionq": ("ionq.simulator", "ionq.qpu.forte-1"),
    "quantinuum": ("quantinuum.sim.h2-1sc", "quantinuum.sim.h2-1e", "quantinuum.qpu.h2-1", "quantinuum.qpu.helios-1"),
    "rigetti": ("rigetti.sim.qvm",),
    "pasqal": ("pasqal.sim.emu-tn",),
    "microsoft-qc": ("microsoft.estimator",),
}


class AzureDouble(VendorDouble):
    """The data plane and the blobs of one account.

    ``sas_seconds`` is how long permissions last, `revoke` ends all there are. ``blobs`` are by ``container/blob``.
    ``lost`` replaces a character of so many of a Quantinuum job's shots. ``limits`` are jobs by provider.
    """

    def __init__(self, *, queue_seconds: float = 0.02, run_seconds: float = 0.02) -> None:
        super().__init__(queue_seconds=queue_seconds, run_seconds=run_seconds)
        self.blobs: dict[str, bytes] = {}
        self.targets: dict[str, dict[str, Any]] = {name: {} for names in TARGETS.values() for name in names}
        self.sas_seconds = 3600.0
        self.output_uri_has_sas = True
        self.cost: dict[str, Any] | None = _cost()
        self.lost: tuple[int, str] = (0, "2")
        self.limits: dict[str, int] = {}
        self.page = 100
        self.filters: list[str] = []
        self.forms: dict[str, Any] = {}
        self._secret = b"first"

    def revoke(self) -> None:
        """No permission given so far is worth anything any more."""
        self._secret += b"+"

    @override
    def routes(self) -> list[web.RouteDef]:
        blob = f"/{ACCOUNT}/{{container}}/{{blob:.+}}"
        return [
            web.get(f"{WORKSPACE}/providerStatus", self._provider_status),
            web.get(f"{WORKSPACE}/quotas", self._quotas),
            web.post(f"{WORKSPACE}/storage/sasUri", self._sas_uri),
            web.get(f"{WORKSPACE}/jobs", self._list),
            web.put(f"{WORKSPACE}/jobs/{{job_id:[^/:]+}}", self._put),
            web.get(f"{WORKSPACE}/jobs/{{job_id:[^/:]+}}", self._get),
            web.post(f"{WORKSPACE}/jobs/{{job_id:[^/:]+}}:cancel", self._cancel),
            web.put(blob, self._put_blob),
            web.get(blob, self._get_blob),
        ]

    @override
    def words(self) -> tuple[str, str, str, str, str]:
        return ("Waiting", "Executing", "Succeeded", "Failed", "Cancelled")

    @override
    async def execute(self, job: VendorJob) -> Any:
        body = job.request
        place = body["inputDataUri"].partition(f"/{ACCOUNT}/")[2].partition("?")[0]
        text = self.blobs[unquote(place)].decode()
        match body["inputDataFormat"], body["outputDataFormat"]:
            case "honeywell.openqasm.v1", "honeywell.quantum-results.v1":
                result = self._with_losses(_by_register(await _computed("openqasm2", text, job.shots)))
            case "ionq.circuit.v1", "ionq.quantum-results.v1":
                result = _probabilities(await _computed("ionq_json", text, job.shots))
            case "qir.v1", "microsoft.quantum-results.v2":
                if body["inputParams"]["entryPoint"] != "ENTRYPOINT__main":
                    raise ValueError("there is no such entry point")
                qasm, recorded = read_qir(text)
                result = _shots(await _computed("openqasm2", qasm, job.shots), recorded)
            case pair:
                raise ValueError(f"these formats are not for this target: {pair}")
        self.blobs[f"job-{job.job_id}/outputData"] = json.dumps(self.forms.get(job.job_id, result)).encode()
        return result

    def _with_losses(self, result: dict[str, list[str]]) -> dict[str, list[str]]:
        number, mark = self.lost
        first = next(iter(result))
        shots = result[first]
        result[first] = [mark + shot[1:] for shot in shots[:number]] + shots[number:]
        return result

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("x-ms-quantum-api-key") != KEY:
            return _error(401, "Unauthorized", "the access key is not valid")
        if request.query.get("api-version") != API_VERSION:
            return _error(400, "UnsupportedApiVersion", "no such version")
        return None

    async def _provider_status(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        providers = [
            {
                "id": provider,
                "currentAvailability": "Available",
                "targets": [_target(name) | self.targets[name] for name in names if name in self.targets],
            }
            for provider, names in TARGETS.items()
        ]
        return web.json_response({"value": providers})

    async def _quotas(self, request: web.Request) -> web.Response:
        rows = [
            {
                "dimension": "jobs",
                "scope": "Workspace",
                "providerId": provider,
                "utilization": float(self._used(provider)),
                "holds": 0.0,
                "limit": float(limit),
                "period": "Monthly",
            }
            for provider, limit in self.limits.items()
        ]
        return self._refused(request) or web.json_response({"value": rows})

    def _used(self, provider: str) -> int:
        return sum(job.request["providerId"] == provider for job in self.jobs.values())

    async def _sas_uri(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        return web.json_response({"sasUri": self.permitted(body["containerName"], body.get("blobName"))})

    def permitted(self, container: str, blob: str | None = None) -> str:
        """A URL with a permission of its own."""
        place = container if blob is None else f"{container}/{blob}"
        ends = (datetime.now(UTC) + timedelta(seconds=self.sas_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = "c" if blob is None else "b"
        query = f"sv=2023-11-03&se={quote(ends)}&sr={kind}&sp=racw&sig={quote(self._signature(place, ends), safe='')}"
        return f"{self.url}/{ACCOUNT}/{place}?{query}"

    def _signature(self, place: str, ends: str) -> str:
        return base64.b64encode(hmac.digest(self._secret, f"{place} {ends}".encode(), hashlib.sha256)).decode()

    def _not_permitted(self, request: web.Request) -> web.Response | None:
        words = request.query
        place = request.match_info["container"]
        if words.get("sr") == "b":
            place += f"/{request.match_info['blob']}"
        ends = words.get("se", "1970-01-01T00:00:00Z")
        good = hmac.compare_digest(words.get("sig", ""), self._signature(place, ends))
        if good and datetime.fromisoformat(ends) > datetime.now(UTC):
            return None
        return _storage_error(403, "AuthenticationFailed", f"Signature did not match: sig={words.get('sig')}")

    async def _put_blob(self, request: web.Request) -> web.Response:
        if (refused := self._not_permitted(request)) is not None:
            return refused
        name = f"{request.match_info['container']}/{request.match_info['blob']}"
        if request.headers.get("x-ms-blob-type") != "BlockBlob":
            return _storage_error(400, "MissingRequiredHeader", "x-ms-blob-type")
        if request.headers.get("If-None-Match") == "*" and name in self.blobs:
            return _storage_error(409, "BlobAlreadyExists", "The specified blob already exists.")
        self.blobs[name] = await request.read()
        return web.Response(status=201, headers={"ETag": '"0x1"', "Last-Modified": "Sat, 21 Nov 2026 07:00:00 GMT"})

    async def _get_blob(self, request: web.Request) -> web.Response:
        if (refused := self._not_permitted(request)) is not None:
            return refused
        content = self.blobs.get(f"{request.match_info['container']}/{request.match_info['blob']}")
        if content is None:
            return _storage_error(404, "BlobNotFound", "The specified blob does not exist.")
        return web.Response(body=content, headers={"ETag": '"0x1"'})

    async def _put(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        job_id, body = request.match_info["job_id"], await request.json()
        if job_id in self.jobs:
            return _error(409, "Conflict", f"the job {job_id} exists")
        if body["target"] not in TARGETS.get(body["providerId"], ()):
            return _error(400, "InvalidTarget", f"no target {body['target']} of {body['providerId']}")
        if self._used(body["providerId"]) >= self.limits.get(body["providerId"], 1_000_000):
            return _error(400, "InsufficientQuota", "the quota of this provider is used up")
        if not body["containerUri"].startswith(f"{self.url}/{ACCOUNT}/job-{job_id}?"):
            return _error(400, "InvalidContainer", "not the container of this job")
        job = VendorJob(job_id, body["target"], int(body["inputParams"]["shots"]), body, "Waiting")
        return web.json_response(self._view(self.add(job)), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["job_id"])
        missing = _error(404, "JobNotFound", "no such job")
        return self._refused(request) or (missing if job is None else web.json_response(self._view(job)))

    async def _cancel(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        job = self.jobs.get(request.match_info["job_id"])
        if job is None:
            return _error(404, "JobNotFound", "no such job")
        return web.Response(status=204) if self.cancel_job(job) else _error(409, "Conflict", "the job has ended")

    async def _list(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        words, jobs = request.query, self.listed()
        condition = words.get("filter", "")
        self.filters.append(condition)
        for part in filter(None, condition.split(" and ")):
            jobs = [job for job in jobs if _fits(part, job)]
        if words.get("orderby") != "CreationTime desc":
            jobs.reverse()
        start, number = int(words.get("skip", "0")), min(int(words.get("top", "100")), self.page)
        answer: dict[str, Any] = {"value": [self._view(job) for job in jobs[start : start + number]]}
        if start + number < len(jobs):
            rest = {**words, "skip": str(start + number)}
            query = "&".join(f"{quote(name)}={quote(value)}" for name, value in rest.items())
            answer["nextLink"] = f"https://elsewhere.invalid{WORKSPACE}/jobs?{query}"
        return web.json_response(answer)

    def _view(self, job: VendorJob) -> dict[str, Any]:
        container = f"job-{job.job_id}"
        output = self.permitted(container, "outputData")
        view = {
            **job.request,
            "id": job.job_id,
            "status": job.word,
            "createdByType": "Key",
            "creationTime": _time(job.created),
            "beginExecutionTime": _time(job.started),
            "outputDataUri": output if self.output_uri_has_sas else output.partition("?")[0],
            "somethingNew": {"of": "tomorrow"},
        }
        if job.ended is not None:
            view["cancellationTime" if job.word == "Cancelled" else "endExecutionTime"] = _time(job.ended)
        if job.result is not None and self.cost is not None:
            view["costEstimate"] = self.cost
        if job.failure is not None:
            kind, _, text = job.failure.partition(": ")
            view["errorData"] = {"code": kind, "message": text}
        return view


def _target(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "currentAvailability": "Available",
        "averageQueueTime": 3600 if ".qpu." in name else 5,
        "statusPage": "https://status.invalid",
        "metadata": {},
    }


def _cost() -> dict[str, Any]:
    event = {
        "dimensionId": "gs1q",
        "dimensionName": "1Q gate shots",
        "measureUnit": "1q gate shot",
        "amountBilled": 500.0,
        "amountConsumed": 500.0,
        "unitPrice": 0.00003,
    }
    return {"currencyCode": "USD", "events": [event], "estimatedTotal": 1.25}


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def _storage_error(status: int, code: str, message: str) -> web.Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(text=body, status=status, content_type="application/xml", headers={"x-ms-error-code": code})


def _time(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def _fits(part: str, job: VendorJob) -> bool:
    if (name := re.fullmatch(r"startswith\(Name, '([^']*)'\)", part)) is not None:
        return job.request["name"].startswith(name[1])
    if (date := re.fullmatch(r"CreationTime ge (\d{4}-\d\d-\d\d)", part)) is not None:
        return job.created_at.date().isoformat() >= date[1]
    raise web.HTTPBadRequest(text=f"filter: {part}")


async def _computed(language: str, text: str, shots: int) -> dict[str, Any]:
    return await shared("tests.doubles.aer_worker").ask_soon({"language": language, "text": text, "shots": shots})


def _by_register(done: dict[str, Any]) -> dict[str, list[str]]:
    """Registers in an order that says nothing."""
    names = [name for name, _ in done["registers"]][::-1]
    shots = [dict(zip(names, memory.split(" "), strict=True)) for memory in done["memory"]]
    return {name: [shot[name] for shot in shots] for name in sorted(names, reverse=True)}


def _probabilities(done: dict[str, Any]) -> dict[str, Any]:
    counts = Counter(int(memory, 2) for memory in done["memory"])
    return {"duration": 1, "histogram": {str(key): n / len(done["memory"]) for key, n in counts.items()}}


def _shots(done: dict[str, Any], recorded: list[int]) -> dict[str, Any]:
    shots = [[int(memory[::-1][result]) for result in recorded] for memory in done["memory"]]
    counts = Counter(json.dumps(shot) for shot in shots)
    histogram = [{"Outcome": json.loads(text), "Display": text, "Count": n} for text, n in counts.items()]
    result = {"Histogram": histogram, "Shots": shots}
    return {"DataFormat": "microsoft.quantum-results.v2", "Results": [result]}


_CALL: Final = re.compile(r"  call void @__quantum__(qis|rt)__(\w+?)(?:__(body|adj))?\((.*)\)")
_PLACE: Final = re.compile(r"%(Qubit|Result)\* inttoptr \(i64 (\d+) to %\1\*\)|double (-?\d\.\d+e[-+]\d+)")
_ADJOINTS: Final = {"s": "sdg", "t": "tdg"}


def read_qir(text: str) -> tuple[str, list[int]]:
    """A base-profile module as OpenQASM 2 with one register ``r`` of results, and the results it records, in order.

    Raises ValueError where a real reader would refuse the module.
    """
    needs = re.search(
        r'"qir_profiles"="base_profile" "required_num_qubits"="(\d+)" "required_num_results"="(\d+)"', text
    )
    block = re.search(
        r"^define i64 @ENTRYPOINT__main\(\) #0 \{\nblock_0:\n(.*)  ret i64 0\n\}$", text, re.DOTALL | re.MULTILINE
    )
    if needs is None or block is None:
        raise ValueError("this is no module of the base profile")
    qubits, results = int(needs[1]), int(needs[2])
    program = [f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{qubits}];\ncreg r[{results}];']
    recorded: list[int] = []
    for line in block[1].splitlines():
        call = _CALL.fullmatch(line)
        if call is None or f"declare void @__quantum__{call[1]}__{call[2]}" not in text:
            raise ValueError(f"not a call of something declared: {line}")
        on = [int(place[2]) for place in _PLACE.finditer(call[4]) if place[1] == "Qubit"]
        into = [int(place[2]) for place in _PLACE.finditer(call[4]) if place[1] == "Result"]
        if max(on, default=-1) >= qubits or max(into, default=-1) >= results:
            raise ValueError("a qubit or result is out of range")
        if call[2] == "result_record_output":
            recorded += into
        elif call[1] == "qis":
            angles = [place[3] for place in _PLACE.finditer(call[4]) if place[3]]
            program += _statements(call[2] if call[3] == "body" else _ADJOINTS[call[2]], angles, on, into)
    return "\n".join(program), recorded


def _statements(name: str, angles: list[str], on: list[int], into: list[int]) -> Iterator[str]:
    where = ", ".join(f"q[{qubit}]" for qubit in on)
    if name == "m":
        yield f"measure {where} -> r[{into[0]}];"
    elif name == "ryy":  # qelib1 has none
        yield from (f"rx(pi/2) q[{qubit}];" for qubit in on)
        yield f"rzz({angles[0]}) {where};"
        yield from (f"rx(-pi/2) q[{qubit}];" for qubit in on)
    else:
        yield f"{name}{f'({angles[0]})' if angles else ''} {where};"


def table(double: AzureDouble, *devices: str) -> dict[str, Any]:
    """The operator's ``[providers.azure]``, with the short times tests want."""
    return {
        "subscription_id": SUBSCRIPTION,
        "resource_group": "rg",
        "workspace": "ws1",
        "location": "eastus",
        "access_key": "azure",
        "quantum_endpoint": double.url,
        "devices": list(devices),
        "status_seconds": 0.2,
        "poll_seconds": 0.05,
        "read_seconds": 1.5,
        "submit_seconds": 1.5,
    }


KIT: Final = Kit(
    key="azure",
    double=AzureDouble,
    table=lambda double: table(double, "quantinuum.sim.h2-1e"),
    secrets={"azure": KEY},
    calls={
        Verb.SUBMIT: r"PUT /subscriptions/.*/jobs/",
        Verb.FIND: r"GET /subscriptions/.*/jobs/",
        Verb.POLL: r"GET /subscriptions/.*/jobs",
        Verb.RECEIPT: rf"GET /{ACCOUNT}/.*/outputData",
        Verb.CANCEL: r"POST /subscriptions/.*/jobs/.*:cancel",
        Verb.DESCRIBE: r"GET /subscriptions/.*/providerStatus",
    },
    device="quantinuum.sim.h2-1e",
)
