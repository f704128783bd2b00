"""Every failure boto3 knows of is one of ours, and the same one whatever service it came from."""

# boto3 ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import subprocess
import sys

import pytest
from botocore import exceptions as aws_exceptions

from qcompute.connections.credentials import Secret
from qcompute.errors import AuthFailed, QuotaSpent, Refused, SubmitUnknown, Unavailable, VendorError
from qcompute.vendor.braket.aws import AwsKeys, mapped

KEYS = AwsKeys(Secret("id", "AKIAEXAMPLE"), Secret("key", "very/secret"), Secret("session", "session+token"))

KNOWN: dict[str, type[VendorError]] = {
    **dict.fromkeys(("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"), Unavailable),
    **dict.fromkeys(
        ("ParamValidationError", "ValidationError", "UnknownKeyError", "RangeError", "UnknownParameterError"), Refused
    ),
    **dict.fromkeys(("InvalidRegionError", "AliasConflictParameterError"), Refused),
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"), AuthFailed),
    **dict.fromkeys(("UnknownCredentialError", "NoAuthTokenError", "TokenRetrievalError"), AuthFailed),
    **dict.fromkeys(("SSOError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"), AuthFailed),
    **dict.fromkeys(("LoginError", "LoginRefreshRequired", "LoginInsufficientPermissions"), AuthFailed),
    **dict.fromkeys(("LoginTokenLoadError", "LoginAuthorizationCodeError"), AuthFailed),
}
"""What botocore raises before it has sent anything. All else may have been processed."""


def exceptions_of(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(below for one in kind.__subclasses__() for below in exceptions_of(one))]


@pytest.mark.parametrize("kind", exceptions_of(aws_exceptions.BotoCoreError), ids=lambda kind: kind.__name__)
def test_every_error_of_botocore_is_one_of_ours(kind: type[Exception]) -> None:
    """An error that is new in botocore is unclear, and so safe, until it is looked at."""
    error = kind.__new__(kind)
    Exception.__init__(error, "text")
    expected = KNOWN.get(kind.__name__)
    assert type(mapped(error, KEYS, paid=True)) is (expected or SubmitUnknown)
    assert type(mapped(error, KEYS, paid=False)) is (expected or Unavailable)


def test_the_errors_known_to_come_before_sending_still_exist() -> None:
    assert {kind.__name__ for kind in exceptions_of(aws_exceptions.BotoCoreError)} >= KNOWN.keys()


@pytest.mark.parametrize(
    ("code", "status", "text", "paid", "free"),
    [
        ("ThrottlingException", 429, "slow", Unavailable, Unavailable),
        ("ThrottlingException", 400, "slow", Unavailable, Unavailable),
        ("SlowDown", 503, "slow", Unavailable, Unavailable),
        ("DeviceOfflineException", 424, "off", Unavailable, Unavailable),
        ("DeviceRetiredException", 410, "gone", Refused, Refused),
        ("AccessDeniedException", 403, "no", AuthFailed, AuthFailed),
        ("UnrecognizedClientException", 403, "no", AuthFailed, AuthFailed),
        ("ExpiredTokenException", 400, "no", AuthFailed, AuthFailed),
        ("InvalidSignatureException", 403, "no", AuthFailed, AuthFailed),
        ("", 401, "no", AuthFailed, AuthFailed),
        ("ServiceQuotaExceededException", 402, "spent", QuotaSpent, QuotaSpent),
        ("", 402, "spent", QuotaSpent, QuotaSpent),
        ("ValidationException", 400, "The Spending Limit of the device is reached", QuotaSpent, QuotaSpent),
        ("ValidationException", 400, "bad program", Refused, Refused),
        ("ValidationException", 400, "Client token has been used", SubmitUnknown, Refused),
        ("IdempotentParameterMismatch", 400, "not idempotent", SubmitUnknown, Refused),
        ("ConflictException", 409, "ended", Refused, Refused),
        ("RequestTimeout", 408, "late", SubmitUnknown, Unavailable),
        ("InternalServiceException", 500, "oops", SubmitUnknown, Unavailable),
        ("", 502, "", SubmitUnknown, Unavailable),
        ("", 301, "", SubmitUnknown, Unavailable),
        ("", 0, "", SubmitUnknown, Unavailable),
    ],
)
def test_what_aws_answers(code: str, status: int, text: str, paid: type[VendorError], free: type[VendorError]) -> None:
    about = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "7"}}
    error = aws_exceptions.ClientError(
        {"Error": {"Code": code, "Message": text}, "ResponseMetadata": about},
        "Anything",
    )
    judged = mapped(error, KEYS, paid=True), mapped(error, KEYS, paid=False)
    assert (type(judged[0]), type(judged[1])) == (paid, free)
    assert {one.vendor_code for one in judged} == {code}
    if isinstance(judged[1], Unavailable):
        assert judged[1].retry_after_seconds == 7.0


def test_a_complaint_about_a_signature_shows_no_key() -> None:
    """AWS quotes the request it would have signed, with the session's token in it."""
    text = (
        "The Canonical String should have been\nx-amz-security-token:session+token\nAKIAEXAMPLE very/secret "
        + "x" * 999
    )
    error = aws_exceptions.ClientError({"Error": {"Code": "InvalidSignatureException", "Message": text}}, "Anything")
    message = str(mapped(error, KEYS, paid=True))
    assert not [word for word in ("session+token", "AKIAEXAMPLE", "very/secret", "\n") if word in message]
    assert len(message) < 400


def test_it_is_imported_without_boto3() -> None:
    code = "import sys, qcompute.vendor.braket.aws; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    assert done.stdout.strip() == "False False"
