"""Azure Quantum: which way in, what the road there does to a request, and what the adapter drags in."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest
from azure.identity import ClientSecretCredential

from qcompute.connections.credentials import variable_of
from qcompute.errors import (
    AuthFailed,
    BadReply,
    ConfigError,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import azure
from qcompute.miner.providers.base import (
    JobHandle,
    ProviderAdapter,
)
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import SHOTS
from qcompute.vendor.azure.service import AzureService
from tests.doubles.azure import ACCOUNT, AzureDouble, table
from tests.providers.azure.scene import EMULATOR, PUT_JOB, STATUS, counts, ended, opened, prepared, submit


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"access_key": None}, "set either access_key, or all of"),
        ({"tenant_id": "t"}, "set either access_key, or all of"),
        ({"access_key": None, "tenant_id": "t", "client_id": "c"}, "set either access_key, or all of"),
        ({"quantum_endpoint": "http://azure.example"}, "must begin with https"),
        ({"prices": {"a": {"currency": "USD"}, "b": {"currency": "EUR"}}}, "in one currency"),
        ({"devices": ["pasqal.qpu.fresnel"]}, "does not run circuits"),
        ({"subscription_id": "mine"}, "subscription_id"),
        ({"access_key": "not set anywhere"}, "access_key"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(double: AzureDouble, change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        open_adapter("azure", table(double) | change)


def test_the_endpoint_follows_from_the_location() -> None:
    given = {"subscription_id": str(uuid.uuid4()), "resource_group": "rg", "workspace": "ws", "location": "westeurope"}
    config = azure.AzureConfig.model_validate(given | {"access_key": "azure"})
    assert config.endpoint == "https://westeurope.quantum.azure.com"


def test_a_key_that_is_not_accepted_is_said(double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("azure"), "another-key")
    with opened(double) as adapter, pytest.raises(AuthFailed, match="Unauthorized: the access key is not valid"):
        adapter.list_devices()


def test_nothing_of_the_environment_is_believed(double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-quantum's Workspace and requests read all of these; a proxy that is not there would show."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_QUANTUM_CONNECTION_STRING", "nonsense")
    monkeypatch.setenv("AZURE_QUANTUM_WORKSPACE_NAME", "another")
    with opened(double, EMULATOR) as adapter:
        assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}


def test_a_service_principal_is_used_as_configured(double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token never goes over plain HTTP: azure-core sees to that, so this ends before the double."""
    monkeypatch.setenv(variable_of("azure_client"), "client-secret-value")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://elsewhere.invalid")
    principal = {"access_key": None, "tenant_id": "tenant", "client_id": "client", "client_secret": "azure_client"}
    with opened(double, **principal) as adapter, pytest.raises(Unavailable, match="ServiceRequestError"):
        adapter.list_devices()
    assert not double.asked
    config = azure.AzureConfig.model_validate(table(double) | principal)
    service = AzureService(config)
    assert isinstance(service._client._config.credential, ClientSecretCredential)
    service.close()
    with pytest.raises(ConfigError, match="access_key"):
        AzureService(config.model_copy(update={"client_secret": None}))


def test_a_page_of_maintenance_is_no_bad_reply(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.fault(STATUS, FaultKind.STATUS, status=200, body=b" <html>", content_type="text/html")
    with pytest.raises(Unavailable, match="maintenance"):
        adapter.list_devices()
    double.fault(STATUS, FaultKind.STATUS, status=200, body=b"soon", content_type="text/plain")
    with pytest.raises(BadReply):
        adapter.list_devices()
    double.fault(STATUS, FaultKind.STATUS, status=418, body=b"[1]")
    with pytest.raises(Refused) as raised:
        adapter.list_devices()
    assert raised.value.vendor_code == "http_418"


def test_a_redirect_is_not_followed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    """The key goes to no host but the operator's."""
    double.fault(STATUS, FaultKind.STATUS, status=307, headers={"Location": f"{double.url}/elsewhere"})
    with pytest.raises(Unavailable, match="307"):
        adapter.list_devices()
    assert double.asked_for("/elsewhere") == 0


def test_a_service_that_is_not_there_is_unavailable(double: AzureDouble, adapter: ProviderAdapter) -> None:
    ready = prepared(adapter)
    double.call(double.stop())
    with pytest.raises(Unavailable, match="cannot be reached"):
        adapter.poll(JobHandle(provider_job_id="x", device_id=EMULATOR))
    with pytest.raises(Unavailable, match="cannot be reached"):
        adapter.submit(ready.payload, EMULATOR, SHOTS)


def test_a_body_that_does_not_end_is_left(
    double: AzureDouble, adapter: ProviderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompute.vendor.azure.service.BODY_SECONDS", 0.2)
    double.fault(STATUS, FaultKind.DRIP, seconds=0.05)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not end"):
        adapter.list_devices()
    assert time.monotonic() - began < 30  # the whole body would take 90 s, and requests waits for blocks of 4096
    monkeypatch.setattr("qcompute.vendor.azure.service.BODY_SECONDS", 60)
    ready = prepared(adapter)
    monkeypatch.setattr("qcompute.vendor.azure.service.MAX_REPLY_BYTES", 150)  # a permission fits, a job does not
    monkeypatch.setattr(AzureDouble, "permitted", lambda self, *_: f"{self.url}/x")  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType, reportUnknownArgumentType]
    double.fault("PUT /x", FaultKind.STATUS, status=201)
    double.fault(PUT_JOB, FaultKind.STATUS, status=201, body=b" " * 200)
    with pytest.raises(SubmitUnknown, match="does not end"):
        adapter.submit(ready.payload, EMULATOR, SHOTS)


def all_errors() -> list[type[BaseException]]:
    import azure.identity  # noqa: PLC0415 - the SDK, not our module
    import azure.storage.blob  # noqa: PLC0415
    from azure.core.exceptions import AzureError  # noqa: PLC0415

    assert azure.identity
    assert azure.storage.blob
    found: list[type[BaseException]] = []
    new: list[type[BaseException]] = [AzureError]
    while new:
        found += new
        new = [below for one in new for below in one.__subclasses__() if below not in found]
    return sorted(set(found), key=lambda one: one.__name__)


class Answer:
    """As little of a response as azure-core's exceptions look at."""

    def __init__(self, status: int, body: str = "", **headers: str) -> None:
        self.status_code = status
        self.reason = "because"
        self.headers = headers
        self.request = "a request"
        self._body = body

    def text(self, encoding: str | None = None) -> str:
        del encoding
        return self._body


def made(kind: Any, status: int | None) -> Any:
    """An exception of this kind, as azure-core makes it; some insist on an answer."""
    answer = None if status is None else Answer(status, '{"error": {"code": "C", "message": "https://x?sig=abc"}}')
    parameters = inspect.signature(kind.__init__).parameters
    given: dict[str, Any] = {
        "message": "about https://x?sig=abc",
        "response": answer,
        "history": [],
        "parts": [],
        "scopes": [],
    }
    if answer is None and parameters.get("response") and parameters["response"].default is inspect.Parameter.empty:
        given["response"] = Answer(200)
    return kind(**{name: value for name, value in given.items() if name in parameters or _is_open(kind, name)})


def _is_open(kind: Any, name: str) -> bool:
    """Whether an argument its own signature hides is handed on to `HttpResponseError`."""
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415

    return name == "response" and issubclass(kind, HttpResponseError) and kind.__name__ == "TooManyRedirectsError"


def test_every_exception_of_azure_core_is_one_of_ours(adapter: ProviderAdapter) -> None:
    """All subclasses there are, free and paid, with and without an answer; none shows a URL's permission."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError  # noqa: PLC0415

    assert isinstance(adapter, azure.AzureAdapter)
    kinds = all_errors()
    assert len(kinds) > 15
    for kind in kinds:
        statuses = (None, 200, 304, 400, 404, 409, 500, 503) if issubclass(kind, HttpResponseError) else (None,)
        for status in statuses:
            error = made(kind, status)
            free = adapter._service.mapped(error, paid=False)
            paid = adapter._service.mapped(error, paid=True)
            assert isinstance(free, VendorError)
            assert not isinstance(free, SubmitUnknown), (kind, status)
            assert "abc" not in f"{free} {paid} {paid.vendor_code}"
            got = error.status_code if isinstance(error, HttpResponseError) else None
            said_no = got is not None and 400 <= got < 500
            no_token = (got is None or got < 400) and isinstance(error, ClientAuthenticationError)
            assert isinstance(paid, SubmitUnknown) == (not said_no and not no_token), (kind, status)


def test_only_a_connection_that_never_came_up_is_provably_unpaid(adapter: ProviderAdapter) -> None:
    """azure-core promises "no request was sent" for TLS failures amid an answer, too."""
    import requests  # noqa: PLC0415 - comes with the SDK
    from azure.core.exceptions import ServiceRequestError, ServiceRequestTimeoutError  # noqa: PLC0415
    from urllib3.connection import HTTPConnection  # noqa: PLC0415
    from urllib3.connectionpool import HTTPConnectionPool  # noqa: PLC0415
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, SSLError  # noqa: PLC0415

    assert isinstance(adapter, azure.AzureAdapter)
    pool, connection = HTTPConnectionPool("127.0.0.1"), HTTPConnection("127.0.0.1")

    def judged(kind: Any, cause: Exception | None) -> VendorError:
        assert isinstance(adapter, azure.AzureAdapter)
        return adapter._service.mapped(kind("x", error=cause), paid=True)

    wrapped = requests.ConnectionError(MaxRetryError(pool, "/", NewConnectionError(connection, "refused")))
    timed_out = requests.ConnectTimeout(MaxRetryError(pool, "/", ConnectTimeoutError("slow")))
    for kind, cause in (
        (ServiceRequestError, NewConnectionError(connection, "refused")),
        (ServiceRequestError, wrapped),
        (ServiceRequestTimeoutError, timed_out),
        (ServiceRequestTimeoutError, ConnectTimeoutError("slow")),
    ):
        assert isinstance(judged(kind, cause), Unavailable)
    cut = requests.exceptions.SSLError(MaxRetryError(pool, "/", SSLError("EOF in violation of protocol")))
    for cause in (cut, requests.ConnectionError(), None):
        assert isinstance(judged(ServiceRequestError, cause), SubmitUnknown)


def test_a_storage_s_refusal_keeps_its_code(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.fault(
        f"PUT /{ACCOUNT}/", FaultKind.STATUS, status=403, body=b"<Error/>", headers={"x-ms-error-code": "OutOfReach"}
    )
    with pytest.raises(AuthFailed, match="azure answered 403: OutOfReach") as raised:
        submit(adapter)
    assert raised.value.vendor_code == "OutOfReach"


def test_a_daemon_with_it_loads_no_qiskit(double: AzureDouble) -> None:
    """Qiskit crashes in threads and costs 200 MB; azure-quantum alone does not need it, nor numpy."""
    code = (
        "import sys\n"
        "from qcompute.miner.providers.registry import open_adapter\n"
        "from qcompute.miner.providers.base import JobHandle\n"
        f"adapter = open_adapter('azure', {table(double)!r})\n"
        "assert adapter.list_devices()\n"
        "assert adapter.poll(JobHandle(provider_job_id='x', device_id='y')).status == 'UNKNOWN'\n"
        "adapter.close()\n"
        "print(*[name for name in ('qiskit', 'numpy', 'qsharp', 'qdk', 'cirq') if name in sys.modules])\n"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-W", "error", "-c", code],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
