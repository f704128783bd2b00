"""boto3 as we use it: explicit keys, nothing ambient, nothing sent twice, every failure an error of our tree.

Facts used, of botocore 1.44: a session reads environment variables, ``~/.aws`` and instance metadata unless each of its
variables is given without them; ``total_max_attempts`` 1 is one attempt and no retry; proxies come from the environment
unless ``proxies`` is given. Importing this module needs no boto3.
"""

# boto3 ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

from qcompute.connections.credentials import Secret
from qcompute.errors import AuthFailed, BadReply, QuotaSpent, Refused, SubmitUnknown, Unavailable, VendorError
from qcompute.vendor.http import MAX_REPLY_BYTES, MAX_TEXT, USER_AGENT, Timeouts, retry_after_seconds

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")

_THROTTLED: Final = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown", "DeviceOffline")
_UNACCEPTED: Final = (
    *(
        "AccessDenied",
        "UnrecognizedClient",
        "ExpiredToken",
        "InvalidSignature",
        "SignatureDoesNotMatch",
        "OptInRequired",
    ),
    *(
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "MissingAuthenticationToken",
        "IncompleteSignature",
        "InvalidToken",
    ),
    *("RequestExpired", "RequestTimeTooSkewed", "AccountProblem", "AllAccessDisabled", "NotAuthorized"),
)
_SPENT: Final = ("ServiceQuotaExceeded", "LimitExceeded")
"""Beginnings of AWS's error codes; services add ``Exception`` or not."""

_UNREADABLE: Final = (AttributeError, TypeError, ValueError, LookupError, RecursionError)
"""What botocore's parser raises over JSON that is not as modelled: a list, a word for a time, brackets without end."""

_CHUNK_BYTES: Final = 1 << 20

MAX_PAGES: Final = 200
"""Of one list. More is a vendor that sends us in circles."""


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """An access key."""

    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret | None = None

    def scrubbed(self, text: str) -> str:
        """An AWS text, fit for a log: printable, short, without the key (a signature's complaint quotes headers)."""
        for secret in (self.access_key_id, self.secret_access_key, self.session_token):
            if secret is not None:
                text = text.replace(secret.reveal(), "***")
        return _UNPRINTABLE.sub(" ", text).strip()[:MAX_TEXT]


class Aws:
    """The clients of an account, one for each service, region and kind of call. Thread-safe.

    ``endpoints`` are URLs by service in place of AWS's own; ``{region}`` in them is replaced.
    """

    def __init__(self, keys: AwsKeys, endpoints: Mapping[str, str], timeouts: Timeouts) -> None:
        import boto3  # noqa: PLC0415 - of the extra
        import botocore.session  # noqa: PLC0415

        bare = {
            name: (None, None, default, conversion)
            for name, (_, _, default, conversion) in botocore.session.Session.SESSION_VARIABLES.items()
        }
        for file in ("config_file", "credentials_file"):
            bare[file] = (None, None, os.devnull, None)
        self._session: Any = boto3.Session(
            aws_access_key_id=keys.access_key_id.reveal(),
            aws_secret_access_key=keys.secret_access_key.reveal(),
            aws_session_token=keys.session_token.reveal() if keys.session_token else None,
            botocore_session=botocore.session.Session(session_vars=bare),
        )
        self._keys = keys
        self._endpoints = dict(endpoints)
        self._timeouts = timeouts
        self._clients: dict[tuple[str, str, bool], Any] = {}
        self._lock = threading.Lock()

    def call(
        self,
        service: str,
        region: str,
        operation: str,
        *,
        paid: bool = False,
        **arguments: Any,  # noqa: ANN401 - AWS's own
    ) -> dict[str, Any]:
        """One request, sent once; ``operation`` in boto3's name.

        Raises:
            Unavailable: provably not processed, or free: throttled, offline, not reached; for free calls 5xx and
                timeouts too.
            SubmitUnknown: a paid call that may have been processed.
            AuthFailed, QuotaSpent, Refused: AWS says so; ``vendor_code`` is AWS's.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - of the extra
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            client = self._client(service, region, paid=paid)
            return getattr(client, operation)(**arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise mapped(error, self._keys, paid=paid) from None
        except _UNREADABLE as error:
            raise _unclear(f"botocore cannot read AWS's answer ({type(error).__name__})", paid=paid) from None

    def pages(
        self,
        service: str,
        region: str,
        operation: str,
        key: str,
        **arguments: Any,  # noqa: ANN401 - AWS's own
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page, free of charge. Raises as `call`; BadReply for a list without an end."""
        token: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = self.call(service, region, operation, **arguments, **token)
            yield from page.get(key, ())
            if not page.get("nextToken"):
                return
            token = {"nextToken": page["nextToken"]}
        raise BadReply(f"a list of {service} has more than {MAX_PAGES} pages", field="nextToken")

    def read_object(self, region: str, bucket: str, key: str) -> bytes:
        """An object of S3, whole. Raises as `call`, and BadReply when it is larger than any result."""
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - of the extra
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        body = self.call("s3", region, "get_object", Bucket=bucket, Key=key)["Body"]
        content = bytearray()
        end = time.monotonic() + self._timeouts.body_seconds
        try:
            while chunk := cast("bytes", body.read(_CHUNK_BYTES)):  # the empty one at the end checks the length
                content += chunk
                if len(content) > MAX_REPLY_BYTES:
                    raise BadReply("a result is too large", field=key.rpartition("/")[2])
                if time.monotonic() > end:
                    raise Unavailable("a result does not come to its end")
        except (BotoCoreError, HTTPError) as error:
            raise Unavailable(f"a result came in part only ({type(error).__name__})") from None
        finally:
            body.close()
        return bytes(content)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def _client(self, service: str, region: str, *, paid: bool) -> Any:  # noqa: ANN401 - boto3 ships no types
        with self._lock:  # a session is not thread-safe, its clients are
            known = self._clients.get((service, region, paid))
            if known is None:
                known = self._clients[service, region, paid] = self._made(service, region, paid=paid)
            return known

    def _made(self, service: str, region: str, *, paid: bool) -> Any:  # noqa: ANN401 - boto3 ships no types
        from botocore.config import Config  # noqa: PLC0415 - of the extra

        url = self._endpoints.get(service)
        settings = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=self._timeouts.connect_seconds,
            read_timeout=self._timeouts.paid_read_seconds if paid else self._timeouts.read_seconds,
            proxies={},
            ignore_configured_endpoint_urls=True,
            max_pool_connections=32,
            user_agent_extra=USER_AGENT,
            s3={"addressing_style": "path"} if url else None,
        )
        endpoint = url.replace("{region}", region) if url else None
        return self._session.client(service, region_name=region, endpoint_url=endpoint, verify=True, config=settings)


def mapped(error: Exception, keys: AwsKeys, *, paid: bool) -> VendorError:
    """What botocore raised, as ours; see `Aws.call`. The only place that knows botocore's exceptions."""
    from botocore import exceptions as aws  # noqa: PLC0415 - of the extra

    name = type(error).__name__
    match error:
        case aws.ClientError():
            return _answered(error, keys, paid=paid)
        case aws.EndpointConnectionError() | aws.ConnectTimeoutError() | aws.ProxyConnectionError():
            return Unavailable(f"AWS cannot be reached ({name})")
        case aws.ParamValidationError() | aws.ValidationError():
            return Refused(f"botocore does not send this: {keys.scrubbed(str(error))}", vendor_code=name)
        case (
            aws.NoCredentialsError()
            | aws.PartialCredentialsError()
            | aws.CredentialRetrievalError()
            | aws.UnknownCredentialError()
            | aws.NoAuthTokenError()
            | aws.TokenRetrievalError()
            | aws.SSOError()
            | aws.LoginError()
        ):
            return AuthFailed(f"there is no AWS key to sign with ({name})")
        case _:
            # Of a TLS error it is not known either whether the request had gone out before.
            return _unclear(f"no clear answer from AWS ({name})", paid=paid)


def _answered(error: Any, keys: AwsKeys, *, paid: bool) -> VendorError:  # noqa: ANN401 - boto3 ships no types
    said = cast("dict[str, Any]", error.response.get("Error", {}))
    about = cast("dict[str, Any]", error.response.get("ResponseMetadata", {}))
    code, text = keys.scrubbed(str(said.get("Code", ""))), keys.scrubbed(str(said.get("Message", "")))
    status = int(about.get("HTTPStatusCode", 0))
    message = f"AWS answered {status} {code}: {text}"
    wait = retry_after_seconds(cast("dict[str, str]", about.get("HTTPHeaders", {})))
    lower = text.lower()
    if code.startswith(_THROTTLED) or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.FAILED_DEPENDENCY):
        return Unavailable(message, vendor_code=code, retry_after_seconds=wait)
    if paid and ("clienttoken" in lower.replace(" ", "") or "idempot" in lower):
        # The token was used with other parameters: there is a job under it.
        return SubmitUnknown(message, vendor_code=code)
    if code.startswith(_SPENT) or "spending limit" in lower or status == HTTPStatus.PAYMENT_REQUIRED:
        return QuotaSpent(message, vendor_code=code)
    if code.startswith(_UNACCEPTED) or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AuthFailed(message, vendor_code=code)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.REQUEST_TIMEOUT:
        return Refused(message, vendor_code=code)
    return _unclear(message, paid=paid, code=code, wait=wait)


def _unclear(message: str, *, paid: bool, code: str | None = None, wait: float | None = None) -> VendorError:
    if paid:
        return SubmitUnknown(message, vendor_code=code)
    return Unavailable(message, vendor_code=code, retry_after_seconds=wait)
