"""A double of Amazon Braket's control plane (rest-json, 2019-09-01) and, behind it, of the S3 bucket results go to.

Shapes are botocore's own model (which checks what our client sends and reads), devices are read with Amazon's own
schemas in a test, programs run on Amazon's own simulator, and S3 is moto's, reached through ``/s3`` so that faults can
be ordered for it too. A guess, because only Amazon can say: how a spent limit and a token with other parameters are
refused, and that a token is remembered for ever.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import aiohttp
from aiohttp import web

from qcompute.miner.providers.base import Verb
from tests.doubles.kits import Kit
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import ROOT, Worker, shared

PYTHON = ROOT / ".venv-braket" / "bin" / "python"

ACCESS_KEY_ID = "AKIADOUBLE0000000001"
ACCOUNT = "123456789012"
BUCKET = "amazon-braket-test"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
GARNET = "arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet"
IBEX = "arn:aws:braket:eu-north-1::device/qpu/aqt/Ibex-Q1"
AQUILA = "arn:aws:braket:us-east-1::device/qpu/quera/Aquila"
ARIA = "arn:aws:braket:us-east-1::device/qpu/ionq/Aria-1"

GATES = (
    *("x", "y", "z", "h", "s", "si", "t", "ti", "v", "vi", "rx", "ry", "rz"),
    *("cnot", "swap", "xx", "yy", "zz"),
)

AQT: dict[str, Any] = {
    "single_qubit_gate_fidelity": {"0": {"value": 99.9, "uncertainty": 0.1}},
    "mean_two_qubit_gate_fidelity": {"value": 98.7, "uncertainty": 0.1},
    "spam_fidelity_lower_bound": 99.7,
    "t2_coherence_time_s": {"value": 0.443, "uncertainty": 0.1},
    "t1_s": {"value": 1.14, "uncertainty": 0.1},
    "readout_time_micros": 3000.0,
    "single_qubit_gate_duration_micros": 15.0,
    "two_qubit_gate_duration_micros": 200.0,
    "updated_at": "2026-01-02T03:04:05Z",
}

_KEY = re.compile(r"Credential=([^/]+)/\d+/([a-z0-9-]+)/braket/aws4_request")


def worker() -> Worker:
    """The child that computes; ``make .venv-braket`` sets its environment up."""
    return shared("tests.doubles.braket_worker", PYTHON)


class BraketDouble(VendorDouble):
    """See the module's text. ``s3_url`` is where the client finds the bucket.

    ``successful_shots`` is what completed tasks report; ``reshape`` may change a result before it is stored;
    ``page_size`` bounds every list.
    """

    def __init__(self, **timing: float) -> None:
        super().__init__(**timing)
        self.access_key_id = ACCESS_KEY_ID
        self.session_token: str | None = None
        self.tokens: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.limits: list[dict[str, Any]] = []
        self.page_size = 100
        self.status: dict[str, str] = {ARIA: "RETIRED"}
        self.queue_sizes: tuple[str, str] = ("2", "0")
        self.position = "None"
        self.successful_shots: int | None = None
        self.documents: dict[str, Any] = devices()
        self.bodies: list[dict[str, Any]] = []
        self.reshape: Callable[[dict[str, Any]], dict[str, Any]] = lambda result: result

    def __enter__(self) -> Self:
        worker().ask({"do": "s3"})  # a cold start takes longer than a test waits for a job
        return super().__enter__()

    @property
    def s3_url(self) -> str:
        """The bucket's endpoint."""
        return f"{self.url}/s3"

    def words(self) -> tuple[str, str, str, str, str]:
        return ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")

    async def execute(self, job: VendorJob) -> Any:
        body = job.request
        result = await worker().ask_soon({"do": "run", "action": body["action"], "shots": job.shots})
        text = json.dumps(self.reshape(result))
        put = {"do": "put", "bucket": body["outputS3Bucket"], "key": f"{self.folder(job)}/results.json", "text": text}
        await worker().ask_soon(put)

    def folder(self, job: VendorJob) -> str:
        """Where in the bucket the job's result is."""
        return f"{job.request['outputS3KeyPrefix']}/{job.job_id.rpartition('/')[2]}"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/", self._sts),
            web.post("/devices", self._search_devices),
            web.get("/device/{arn:.+}", self._get_device),
            web.post("/quantum-task", self._create),
            web.post("/quantum-tasks", self._search),
            web.get("/quantum-task/{arn:.+}", self._get),
            web.put("/quantum-task/{arn:.+}/cancel", self._cancel),
            web.post("/spending-limit", self._create_limit),
            web.post("/spending-limits", self._search_limits),
            web.get("/s3/{path:.+}", self._s3),
        ]

    async def _search_devices(self, request: web.Request) -> web.Response:
        region = self._region(request)
        here = [self._summary_of_device(arn) for arn in self.documents if _home(arn) in ("", region)]
        return self._page("devices", here, await request.json())

    async def _get_device(self, request: web.Request) -> web.Response:
        arn = request.match_info["arn"]
        if arn not in self.documents or _home(arn) not in ("", self._region(request)):
            raise refusal(404, "ResourceNotFoundException", f"no device {arn}")
        queues = [
            {"queue": "QUANTUM_TASKS_QUEUE", "queueSize": size, "queuePriority": priority}
            for size, priority in zip(self.queue_sizes, ("Normal", "Priority"), strict=True)
        ]
        queues.append({"queue": "JOBS_QUEUE", "queueSize": "7 (7 prioritized job(s) running)"})
        document = self.documents[arn]["capabilities"]
        text = document if isinstance(document, str) else json.dumps(document)
        return web.json_response(self._summary_of_device(arn) | {"deviceCapabilities": text, "deviceQueueInfo": queues})

    async def _create(self, request: web.Request) -> web.Response:
        region, body = self._region(request), await request.json()
        arn = body["deviceArn"]
        asked = (body["action"], arn, body["shots"])
        if body["clientToken"] in self.tokens:
            task, before = self.tokens[body["clientToken"]]
            if before != asked:
                raise refusal(400, "ValidationException", "clientToken was used with different parameters")
            return web.json_response({"quantumTaskArn": task}, status=201)
        self._check_device(arn, region, body["shots"])
        task = f"arn:aws:braket:{region}:{ACCOUNT}:quantum-task/{uuid.uuid4()}"
        self.tokens[body["clientToken"]] = (task, asked)
        self.bodies.append(body)
        self.add(VendorJob(task, arn, body["shots"], body, "QUEUED"))
        return web.json_response({"quantumTaskArn": task}, status=201)

    def _check_device(self, arn: str, region: str, shots: int) -> None:
        if arn not in self.documents or _home(arn) not in ("", region):
            raise refusal(404, "ResourceNotFoundException", f"no device {arn}")
        if self.status.get(arn) == "OFFLINE":
            raise refusal(424, "DeviceOfflineException", "The device is currently offline.")
        if self.status.get(arn) == "RETIRED":
            raise refusal(410, "DeviceRetiredException", "The device has been retired.")
        spent = sum(0.3 + 0.08 * job.shots for job in self.jobs.values() if job.device == arn)
        for limit in self.limits:
            if limit["deviceArn"] == arn and spent + 0.3 + 0.08 * shots > float(limit["spendingLimit"]):
                raise refusal(400, "ValidationException", "The task exceeds the spending limit of the device.")

    async def _search(self, request: web.Request) -> web.Response:
        region, body = self._region(request), await request.json()
        found = [job for job in self.listed() if job.job_id.split(":")[3] == region]
        for wanted in body["filters"]:
            found = [job for job in found if _matches(job, wanted)]
        return self._page("quantumTasks", [self._summary(job) for job in found], body)

    async def _get(self, request: web.Request) -> web.Response:
        job = self._job(request)
        answer = self._summary(job) | {"deviceParameters": "{}"}
        if job.failure is not None:
            answer["failureReason"] = job.failure
        if job.word == "COMPLETED":
            answer["numSuccessfulShots"] = job.shots if self.successful_shots is None else self.successful_shots
        if "QueueInfo" in request.query.getall("additionalAttributeNames", []):
            answer["queueInfo"] = {"queue": "QUANTUM_TASKS_QUEUE", "position": self.position}
        return web.json_response(answer)

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if not self.cancel_job(job):
            raise refusal(409, "ConflictException", "The task is in a terminal state.")
        return web.json_response({"quantumTaskArn": job.job_id, "cancellationStatus": "CANCELLING"})

    async def _create_limit(self, request: web.Request) -> web.Response:
        self._region(request)
        body = await request.json()
        known = next((limit for limit in self.limits if limit["clientToken"] == body["clientToken"]), None)
        if "quantum-simulator" in body["deviceArn"]:
            raise refusal(400, "ValidationException", "Simulators do not support spending limits.")
        if known is None:
            arn = f"arn:aws:braket:us-east-1:{ACCOUNT}:spending-limit/{uuid.uuid4()}"
            now = datetime.now(UTC)
            known = body | {"spendingLimitArn": arn, "from": now, "until": now + timedelta(days=3650)}
            self.limits.append(known)
        return web.json_response({"spendingLimitArn": known["spendingLimitArn"]}, status=201)

    async def _search_limits(self, request: web.Request) -> web.Response:
        self._region(request)
        body = await request.json()
        wanted = body["filters"][0]["values"] if body.get("filters") else None
        shown = [_limit(limit) for limit in self.limits if wanted is None or limit["deviceArn"] in wanted]
        return self._page("spendingLimits", shown, body)

    async def _sts(self, request: web.Request) -> web.Response:
        """STS, which speaks XML."""
        assert (await request.post())["Action"] == "GetCallerIdentity"
        if f"Credential={self.access_key_id}/" not in request.headers.get("Authorization", ""):
            words = "<Code>InvalidClientTokenId</Code><Message>The security token is invalid.</Message>"
            xml = f"<ErrorResponse><Error><Type>Sender</Type>{words}</Error></ErrorResponse>"
            return web.Response(status=403, text=xml, content_type="text/xml")
        who = "<Arn>arn:aws:iam::123456789012:user/miner</Arn><UserId>AIDA</UserId><Account>123456789012</Account>"
        name = "GetCallerIdentity"
        xml = f"<{name}Response><{name}Result>{who}</{name}Result></{name}Response>"
        return web.Response(text=xml, content_type="text/xml")

    async def _s3(self, request: web.Request) -> web.Response:
        moto = await worker().ask_soon({"do": "s3"})
        sent = {k: v for k, v in request.headers.items() if k.lower().startswith(("x-amz-", "authorization"))}
        url = f"{moto}/{request.match_info['path']}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=sent) as answer:
            body = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower().startswith(("x-amz-", "etag", "content-type"))}
            return web.Response(body=body, status=answer.status, headers=kept)

    def _region(self, request: web.Request) -> str:
        """Of the signature; refuses another key, and a token that is not the present one."""
        found = _KEY.search(request.headers.get("Authorization", ""))
        if found is None or found.group(1) != self.access_key_id:
            raise refusal(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        if request.headers.get("X-Amz-Security-Token") != self.session_token:
            raise refusal(403, "ExpiredTokenException", "The security token included in the request is expired")
        return found.group(2)

    def _job(self, request: web.Request) -> VendorJob:
        self._region(request)
        job = self.jobs.get(request.match_info["arn"])
        if job is None:
            raise refusal(404, "ResourceNotFoundException", "no such task")
        return job

    def _summary_of_device(self, arn: str) -> dict[str, Any]:
        kind = "SIMULATOR" if "quantum-simulator" in arn else "QPU"
        return {
            "deviceArn": arn,
            "deviceName": arn.rpartition("/")[2],
            "providerName": self.documents[arn]["vendor"],
            "deviceType": kind,
            "deviceStatus": self.status.get(arn, "ONLINE"),
        }

    def _summary(self, job: VendorJob) -> dict[str, Any]:
        shown = {
            "quantumTaskArn": job.job_id,
            "status": job.word,
            "deviceArn": job.device,
            "shots": job.shots,
            "outputS3Bucket": job.request["outputS3Bucket"],
            "outputS3Directory": self.folder(job),
            "createdAt": job.created_at.isoformat(),
            "tags": job.request.get("tags", {}),
        }
        if job.ended is not None:
            shown["endedAt"] = datetime.fromtimestamp(job.ended, UTC).isoformat()
        return shown

    def _page(self, key: str, items: list[dict[str, Any]], body: dict[str, Any]) -> web.Response:
        start, size = int(body.get("nextToken") or 0), min(self.page_size, body.get("maxResults") or 100)
        answer: dict[str, Any] = {key: items[start : start + size]}
        if start + size < len(items):
            answer["nextToken"] = str(start + size)
        return web.json_response(answer)


def refusal(status: int, code: str, message: str) -> web.HTTPException:
    """An error as Braket answers it."""
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
        410: web.HTTPGone,
        424: web.HTTPFailedDependency,
    }
    made = kinds[status](text=json.dumps({"message": message}), content_type="application/json")
    made.headers["x-amzn-ErrorType"] = code
    return made


def _home(arn: str) -> str:
    return arn.split(":")[3]


def _matches(job: VendorJob, wanted: dict[str, Any]) -> bool:
    match wanted:
        case {"name": "quantumTaskArn", "operator": "EQUAL", "values": values} if len(values) <= 10:
            return job.job_id in values
        case {"name": "createdAt", "operator": "GTE", "values": [since]}:
            return job.created_at >= datetime.fromisoformat(since)
        case _:
            raise refusal(400, "ValidationException", "bad filter")


def _limit(limit: dict[str, Any]) -> dict[str, Any]:
    return {
        "spendingLimitArn": limit["spendingLimitArn"],
        "deviceArn": limit["deviceArn"],
        "timePeriod": {"startAt": limit["from"].timestamp(), "endAt": limit["until"].timestamp()},
        "spendingLimit": limit["spendingLimit"],
        "queuedSpend": "0",
        "totalSpend": "0",
        "createdAt": limit["from"].isoformat(),
        "updatedAt": limit["from"].isoformat(),
    }


def devices() -> dict[str, Any]:
    """Each device's ``vendor``, ``schema`` and ``capabilities`` by ARN. Figures are of the order of the real ones."""
    every = [{"executionDay": "Everyday", "windowStartHour": "00:00", "windowEndHour": "23:59:59"}]
    grid = {"1": ["2"], "2": ["1", "3"], "3": ["2"]}
    return {
        SV1: _device("Amazon Braket", "simulator", 34, cost=(0.075, "minute"), shots=(0, 100_000), windows=every),
        FORTE: _device("IonQ", "ionq", 36, cost=(0.08, "shot"), shots=(1, 5000), windows=every, graph={}),
        GARNET: _device("IQM", "iqm", 20, cost=(0.00145, "shot"), shots=(1, 20_000), windows=every, graph=grid),
        IBEX: _device("AQT", "aqt", 12, cost=(0.0235, "shot"), shots=(1, 2000), windows=every, graph={}),
        ARIA: _device("IonQ", "ionq", 25, cost=(0.03, "shot"), shots=(1, 5000), windows=every, graph={}),
        AQUILA: {"vendor": "QuEra", "schema": None, "capabilities": {"action": {"braket.ir.ahs.program": {}}}},
    }


def _device(
    vendor: str,
    schema: str,
    qubits: int,
    *,
    cost: tuple[float, str],
    shots: tuple[int, int],
    windows: list[dict[str, str]],
    graph: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    head = "simulators.gate_model_simulator" if schema == "simulator" else f"{schema}.{schema}"
    paradigm = "simulators.gate_model_simulator_paradigm" if schema == "simulator" else "gate_model_qpu_paradigm"
    document: dict[str, Any] = {
        "braketSchemaHeader": _header(f"{head}_device_capabilities"),
        "service": {
            "braketSchemaHeader": _header("device_service_properties"),
            "executionWindows": windows,
            "shotsRange": list(shots),
            "deviceCost": {"price": cost[0], "unit": cost[1]},
            "updatedAt": "2026-01-02T03:04:05",
        },
        "action": {"braket.ir.openqasm.program": _action()},
        "paradigm": {"braketSchemaHeader": _header(f"{paradigm}_properties"), "qubitCount": qubits},
        "deviceParameters": {},
    }
    if graph is not None:
        document["paradigm"] |= {
            "nativeGateSet": ["cz", "prx"],
            "connectivity": {"fullyConnected": not graph, "connectivityGraph": graph},
        }
    document |= _calibration(schema)
    return {"vendor": vendor, "schema": schema, "capabilities": document}


def _header(name: str, version: str = "1") -> dict[str, str]:
    return {"name": f"braket.device_schema.{name}", "version": version}


def _action() -> dict[str, Any]:
    return {
        "actionType": "braket.ir.openqasm.program",
        "version": ["1"],
        "supportedOperations": list(GATES),
        "supportedResultTypes": [{"name": "Sample", "observables": ["z"], "minShots": 1, "maxShots": 100_000}],
    }


def _calibration(schema: str) -> dict[str, Any]:
    standard = "standardized_gate_model_qpu_device_properties"
    if schema == "ionq":
        means = {"1Q": {"mean": 0.9998}, "2Q": {"mean": 0.995}, "spam": {"mean": 0.994}}
        header = _header("ionq.ionq_provider_properties")
        return {"provider": {"braketSchemaHeader": header, "fidelity": means, "timing": {"T1": 100.0, "T2": 1.0}}}
    if schema == "iqm":
        return {
            "standardized": {
                "braketSchemaHeader": _header(standard),
                "oneQubitProperties": {"1": _qubit(42.0, 0.999, 0.97), "2": _qubit(40.0, 0.997, 0.95)},
                "twoQubitProperties": {"1-2": {"twoQubitGateFidelity": [_fidelity("INTERLEAVED", 0.99, "CZ")]}},
            }
        }
    if schema == "aqt":
        whole = {"fidelity": 0.9989, "unit": "fraction"}
        return {
            "standardized": {
                "braketSchemaHeader": _header(standard, "3"),
                "T1": {"value": 1.14, "unit": "s"},
                "T2": {"value": 443.0, "unit": "ms"},
                "singleQubitFidelity": [whole],
                "readoutFidelity": [whole | {"fidelity": 0.997}],
                "twoQubitGateFidelity": [whole | {"fidelity": 0.987}],
            },
            "provider": {"braketSchemaHeader": _header("aqt.aqt_provider_properties"), "properties": AQT},
        }
    return {}


def _qubit(microseconds: float, gate: float, readout: float) -> dict[str, Any]:
    return {
        "T1": {"value": microseconds, "unit": "us"},
        "T2": {"value": microseconds / 2e6, "unit": "S"},
        "oneQubitFidelity": [
            _fidelity("RANDOMIZED_BENCHMARKING", gate),
            _fidelity("READOUT", readout),
            _fidelity("READOUT_ERROR", 1 - readout),
        ],
    }


def _fidelity(kind: str, value: float, gate: str | None = None) -> dict[str, Any]:
    return {"fidelityType": {"name": kind}, "fidelity": value} | ({"gateName": gate} if gate else {})


def aged(job: VendorJob, seconds: float) -> VendorJob:
    """The job as if it had come earlier."""
    job.created = time.time() - seconds
    return job


CALLS: Mapping[Verb, str] = {
    Verb.SUBMIT: r"^POST /quantum-task$",
    Verb.FIND: r"^POST /quantum-tasks$",
    Verb.POLL: r"^(GET /quantum-task/|POST /quantum-tasks$)",
    Verb.RECEIPT: r"^GET /(quantum-task|s3)/",
    Verb.CANCEL: r"^PUT /quantum-task/.+/cancel$",
    Verb.DESCRIBE: r"^(POST /devices$|GET /device/)",
}


def table(double: BraketDouble) -> dict[str, Any]:
    """The operator's ``[providers.braket]``."""
    return {
        "access_key_id": "braket_id",
        "secret_access_key": "braket_key",
        "regions": ["us-east-1", "eu-north-1"],
        "bucket": BUCKET,
        "braket_endpoint_url": double.url,
        "s3_endpoint_url": double.s3_url,
        "sts_endpoint_url": double.url,
        "connect_seconds": 2.0,
        "read_seconds": 2.5,
        "paid_read_seconds": 1.5,
    }


KIT = Kit(
    key="braket",
    double=BraketDouble,
    table=table,
    secrets={"braket_id": ACCESS_KEY_ID, "braket_key": "wJalrXUtnFEMI/double/bPxRfiCYEXAMPLE"},
    calls=CALLS,
    device=FORTE,
)
