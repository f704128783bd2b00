"""A workspace of Azure Quantum and its storage, through azure-quantum 3.13: every outcome is an error of our tree.

The SDK's data-plane client is used, not its ``Workspace``: that reads credentials and places from the environment, and
opens a second client for Azure's control plane. azure-core repeats PUTs, follows redirects and believes proxies and
``~/.netrc``; here it does none of that.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qcompute.connections.credentials import Secret
from qcompute.errors import (
    AuthFailed,
    BadReply,
    ConfigError,
    QuotaSpent,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.vendor.azure.wire import SasPlace
from qcompute.vendor.http import (
    MAX_REPLY_BYTES,
    MAX_TEXT,
    USER_AGENT,
    Reply,
    Timeouts,
    VendorHttp,
    retry_after_seconds,
    usual_words,
)

if TYPE_CHECKING:
    from azure.core.credentials import AzureKeyCredential
    from azure.core.exceptions import AzureError
    from azure.core.rest import HttpResponse
    from azure.identity import ClientSecretCredential

API_VERSION: Final = "2026-01-15-preview"
"""What azure-quantum 3.13 asks for."""
CONNECT_SECONDS: Final = 10.0
BODY_SECONDS: Final = Timeouts().body_seconds
BLOCK_BYTES: Final = 16
"""requests hands a body out in blocks and waits until each is full: only between two of them can we give up."""
RENEW_BEFORE: Final = timedelta(minutes=5)
"""A permission that ends sooner is not used."""

_SIGNATURE: Final = re.compile(r"(?i)\bsig=[^&\s\"'<]+")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


class AzureAccess(BaseModel):
    """One workspace, and how to be let in: by its access key, or as a service principal. No other way is ever tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription_id: str = Field(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    """The Azure subscription's id, a GUID."""
    resource_group: str = Field(pattern=r"^[\w().-]{1,90}$")
    """The resource group the workspace is in."""
    workspace: str = Field(pattern="^[a-zA-Z0-9-]{2,54}$")
    """The workspace's name."""
    location: str = Field(pattern="^[a-z0-9]{3,40}$")
    """The workspace's region in Azure's short form, such as ``eastus``."""
    access_key: Secret | None = None
    """Name of the secret that holds one of the workspace's access keys; either this or a service principal."""
    tenant_id: str | None = None
    """Service principal: the directory's (tenant's) id."""
    client_id: str | None = None
    """Service principal: the application's (client's) id."""
    client_secret: Secret | None = None
    """Service principal: name of the secret that holds the application's client secret."""
    authority: str = "login.microsoftonline.com"
    """Host that gives out a service principal's tokens."""
    quantum_endpoint: str | None = None
    """Base URL of the service; not set: ``https://<location>.quantum.azure.com``. Workspaces of kind V2 have
    ``https://<location>-v2.quantum.azure.com``; it is in the connection string that the portal shows."""
    read_seconds: float = Field(default=30.0, gt=0)
    """How long a free call may take to answer."""
    submit_seconds: float = Field(default=120.0, gt=0)
    """How long the call that costs money may take: giving up early makes an unknown out of an answer."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        principal = (self.tenant_id, self.client_id, self.client_secret)
        if (None in principal) if self.access_key is None else any(principal):
            raise ValueError("set either access_key, or all of tenant_id, client_id and client_secret")
        parts = urlsplit(self.endpoint)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            raise ValueError("quantum_endpoint must begin with https://, or the key would travel in the clear")
        return self

    @property
    def endpoint(self) -> str:
        """Base URL of the service, without a trailing slash."""
        return (self.quantum_endpoint or f"https://{self.location}.quantum.azure.com").rstrip("/")


class AzureService:
    """A workspace. Thread-safe; construct it on the main thread, where the SDK is imported."""

    def __init__(self, access: AzureAccess) -> None:
        from azure.quantum.workspace import WorkspaceClient  # noqa: PLC0415 - only who uses it pays for it
        from azure.storage.blob import BlobClient, ContainerClient  # noqa: PLC0415

        self._access = access
        self._secrets = [secret for secret in (access.access_key, access.client_secret) if secret is not None]
        self._manners: dict[str, Any] = {
            "retry_total": 0,
            "permit_redirects": False,
            "use_env_settings": False,
            "connection_timeout": CONNECT_SECONDS,
            "read_timeout": access.read_seconds,
            "connection_data_block_size": BLOCK_BYTES,
            "user_agent": USER_AGENT,
        }
        self._client = WorkspaceClient(access.endpoint, _credential(access), **self._manners)
        self._blob, self._container = BlobClient, ContainerClient
        # Results are read without the SDK, which lets a body take for ever. The URLs carry their own permission.
        timeouts = Timeouts(connect_seconds=CONNECT_SECONDS, read_seconds=access.read_seconds)
        self._storage = VendorHttp("azure's storage", access.endpoint, headers={}, timeouts=timeouts)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
        paid: bool = False,
        accept: Iterable[int] = (),
    ) -> Reply:
        """One request to the workspace, sent once. 2xx and ``accept`` come back, everything else is raised.

        Raises:
            VendorError: as `mapped` judges it.
            BadReply: a free call was answered with something that is not JSON.
        """
        from azure.core.rest import HttpRequest  # noqa: PLC0415 - loaded with the client

        access = self._access
        place = f"/subscriptions/{access.subscription_id}/resourceGroups/{quote(access.resource_group)}"
        place += f"/providers/Microsoft.Quantum/workspaces/{access.workspace}{path}"
        words = urlencode({**(query or {}), "api-version": API_VERSION}, quote_via=quote)
        request = HttpRequest(method, f"{access.endpoint}{place}?{words}", json=body)
        wait = access.submit_seconds if paid else access.read_seconds
        with (
            self._judging(paid=paid),
            self._client.send_request(request, stream=True, read_timeout=wait) as response,
        ):
            status, headers, content = response.status_code, response.headers, _content(response, paid=paid)
        if status in accept:
            return Reply(status, None)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(status, headers, *_words(content), paid=paid)
        return Reply(status, _json(content, paid=paid))

    def permitted(self, container: str, blob: str | None = None) -> str:
        """A URL with a fresh permission, for a container, which the service makes if need be, or for one blob in it."""
        body = {"containerName": container} | ({} if blob is None else {"blobName": blob})
        return self.call("POST", "/storage/sasUri", body=body).read(SasPlace, what="sasUri").sas_uri

    def upload(self, container: str, blob: str, content: bytes, content_type: str) -> str:
        """Write a blob, over what an earlier try may have left; ``container`` is a permitted URL.

        Returns the blob's URL without its permission.
        """
        from azure.storage.blob import ContentSettings  # noqa: PLC0415 - loaded with the client

        settings = ContentSettings(content_type=content_type)
        with self._judging(), self._container.from_container_url(container, **self._manners) as client:
            client.upload_blob(blob, content, overwrite=True, content_settings=settings)
        return f"{container.partition('?')[0]}/{blob}"

    def download(self, url: str) -> object:
        """A blob's JSON. If the permission in ``url`` has ended, or is refused, a new one is asked for.

        Raises:
            VendorError: as `qcompute.vendor.http.VendorHttp.call` says.
        """
        if _permitted_until(url) > datetime.now(UTC) + RENEW_BEFORE:
            try:
                return self._storage.get(url).json
            except AuthFailed:
                pass  # revoked, or storage's clock differs from ours
        try:
            with self._blob.from_blob_url(url) as place:
                container, blob = place.container_name, place.blob_name
        except ValueError:
            raise BadReply("azure names a result that is no blob", field="outputDataUri") from None
        return self._storage.get(self.permitted(container, blob)).json

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._storage.close()

    @contextmanager
    def _judging(self, *, paid: bool = False) -> Generator[None]:
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - loaded with the client

        try:
            yield
        except AzureError as error:
            raise self.mapped(error, paid=paid) from None

    def mapped(self, error: AzureError, *, paid: bool) -> VendorError:
        """What an exception of azure-core means to us; the one place they are judged.

        A paid call that was not provably left unprocessed is `SubmitUnknown`, whatever the exception's name promises.
        """
        from azure.core.exceptions import (  # noqa: PLC0415 - loaded with the client
            ClientAuthenticationError,
            HttpResponseError,
            ServiceRequestError,
        )

        kind = type(error).__name__
        status = error.status_code if isinstance(error, HttpResponseError) else None
        if isinstance(error, HttpResponseError) and status is not None and status >= HTTPStatus.BAD_REQUEST:
            response = cast("HttpResponse | None", error.response)
            headers: Mapping[str, str] = {} if response is None else response.headers
            return self._refusal(status, headers, headers.get("x-ms-error-code"), None, paid=paid)
        if isinstance(error, ClientAuthenticationError):  # azure-identity's: no token, so no request
            return AuthFailed("azure gave no token for this service principal")
        if isinstance(error, ServiceRequestError) and (not paid or _never_connected(error)):
            return Unavailable(f"azure cannot be reached ({kind})")
        if paid:
            return SubmitUnknown(f"no clear answer from azure ({kind})")
        return Unavailable(f"no answer from azure ({kind})")

    def _refusal(
        self, status: int, headers: Mapping[str, str], code: str | None, text: str | None, *, paid: bool
    ) -> VendorError:
        """What an error status means. Only Azure's own code and text are kept, never a body."""
        code = None if code is None else self.printable(code)
        said = [word for word in (code, None if text is None else self.printable(text)) if word]
        message = ": ".join((f"azure answered {status}", *said))
        wait = retry_after_seconds(headers)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return AuthFailed(message, vendor_code=code)
        if status == HTTPStatus.PAYMENT_REQUIRED or "quota" in (code or "").lower():
            return QuotaSpent(message, vendor_code=code)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return Unavailable(message, vendor_code=code, retry_after_seconds=wait)
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.REQUEST_TIMEOUT:
            return Refused(message, vendor_code=code or f"http_{status}")
        if paid:
            return SubmitUnknown(message, vendor_code=code)
        return Unavailable(message, vendor_code=code, retry_after_seconds=wait)

    def printable(self, text: str) -> str:
        """A vendor's text, fit for a log: short, printable, without our secrets and without anybody's signature."""
        for secret in self._secrets:
            text = text.replace(secret.reveal(), "***")
        return _UNPRINTABLE.sub(" ", _SIGNATURE.sub("sig=***", text)).strip()[:MAX_TEXT]


def _content(response: HttpResponse, *, paid: bool) -> bytes:
    """The body, bounded in size and time: a server that sends a byte now and then must not keep a thread for ever."""
    content = bytearray()
    end = time.monotonic() + BODY_SECONDS
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > MAX_REPLY_BYTES or time.monotonic() > end:
            message = "azure's answer does not end"
            raise SubmitUnknown(message) if paid else Unavailable(message)
    return bytes(content)


def _json(content: bytes, *, paid: bool) -> Any:  # noqa: ANN401 - JSON
    if not content:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        if paid:
            raise SubmitUnknown("azure answered a submit with something that is not JSON") from None
        if content.lstrip()[:1] == b"<":
            raise Unavailable("azure answered with a web page: maintenance?") from None
        raise BadReply("azure answered with something that is not JSON", field="body") from None


def _words(content: bytes) -> tuple[str | None, str | None]:
    """Azure's own code and text in an error's body."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None, None
    return usual_words(cast("dict[str, Any]", body)) if isinstance(body, dict) else (None, None)


def _credential(access: AzureAccess) -> AzureKeyCredential | ClientSecretCredential:
    from azure.core.credentials import AzureKeyCredential  # noqa: PLC0415 - loaded with the client
    from azure.identity import ClientSecretCredential  # noqa: PLC0415

    if access.access_key is not None:
        return AzureKeyCredential(access.access_key.reveal())
    if access.tenant_id is None or access.client_id is None or access.client_secret is None:
        raise ConfigError("providers.azure: set either access_key, or all of tenant_id, client_id and client_secret")
    return ClientSecretCredential(
        access.tenant_id,
        access.client_id,
        access.client_secret.reveal(),
        authority=access.authority,  # else AZURE_AUTHORITY_HOST would be read
        retry_total=0,
        use_env_settings=False,
        connection_timeout=CONNECT_SECONDS,
        read_timeout=access.read_seconds,
    )


def _never_connected(error: AzureError) -> bool:
    """Whether no connection came up. azure-core says "no request was sent" of a TLS failure in mid-air as well."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError  # noqa: PLC0415 - the SDK's

    cause: object = error.inner_exception
    if isinstance(cause, Exception) and cause.args and isinstance(cause.args[0], MaxRetryError):
        cause = cause.args[0].reason  # requests wraps urllib3's
    return isinstance(cause, ConnectTimeoutError | NewConnectionError)


def _permitted_until(url: str) -> datetime:
    """When the permission in the URL ends; long ago when it has none."""
    (ends,) = parse_qs(urlsplit(url).query).get("se", [""])[:1]
    try:
        moment = datetime.fromisoformat(ends)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
