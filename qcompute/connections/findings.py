"""What looking at a connection found: a line for each thing looked at, with the fix where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qcompute.errors import AuthFailed, BadReply, ConfigError, QComputeError, QuotaSpent, Refused, Unavailable


class Subject(StrEnum):
    """What is looked at."""

    SETTINGS = "settings"
    """The definition and its credentials can be read, and the provider takes them."""
    REACHABLE = "reachable"
    """The service answers."""
    IDENTITY = "identity"
    """It knows us, and who we are there."""
    QUOTA = "quota"
    """What may still be used, in the vendor's own measure."""
    COST_LIMIT = "cost limit"
    """What keeps the account from spending more."""
    DEVICES = "devices"
    """What it has for us, and whether that can be used now."""


class Grade(StrEnum):
    """How a finding is meant."""

    OK = "ok"
    NOTICE = "notice"
    """Nothing is broken, and the operator should know."""
    FAILED = "failed"
    """Jobs cannot be run there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``fix`` is what to do, for people; empty where nothing is to be done."""

    subject: Subject
    grade: Grade
    text: str
    fix: str = ""


def good(subject: Subject, text: str) -> Finding:
    """Nothing to do."""
    return Finding(subject, Grade.OK, text)


def notice(subject: Subject, text: str, fix: str = "") -> Finding:
    """Worth knowing."""
    return Finding(subject, Grade.NOTICE, text, fix)


_EXPIRED: Final = ("expired", "AADSTS7000222")
"""In a vendor's code or text, when a key was right once: AWS, IBM, and Entra's code for a client secret."""
_CLOCK: Final = ("RequestTimeTooSkewed", "clock")
_UNKNOWN: Final = (
    *("InvalidClientTokenId", "UnrecognizedClient", "InvalidAccessKeyId", "InvalidToken"),
    *("SignatureDoesNotMatch", "InvalidSignature"),
)
"""AWS answers 403 to a key that it does not know as well."""
_FORBIDDEN: Final = ("answered 403", "AccessDenied", "NotAuthorized", "Forbidden", "AuthorizationFailed")
_NOT_REACHED: Final = ("ConnectError", "EndpointConnectionError", "cannot be reached", "ServiceRequestError")
_SLOW: Final = ("ConnectTimeout", "ReadTimeout", "Timeout")


def failure(error: QComputeError) -> Finding:
    """What an error of an adapter means, in words for whoever set the connection up; each cause in its own."""
    code = getattr(error, "vendor_code", None) or ""
    told = f"{code} {error.message}"
    match error:
        case AuthFailed():
            return _not_let_in(error, told)
        case QuotaSpent():
            fix = "raise the limit at the vendor, or wait until it starts again"
            return Finding(Subject.QUOTA, Grade.FAILED, f"nothing may be spent: {error.message}", fix)
        case ConfigError():
            return Finding(Subject.SETTINGS, Grade.FAILED, error.message, "correct the setting or credential it names")
        case Unavailable():
            return _not_answered(error, told)
        case Refused():
            fix = "check names and ids in the settings: region, instance, workspace, base URL"
            text = f"the service is there and does not know what we ask for: {error.message}"
            return Finding(Subject.SETTINGS, Grade.FAILED, text, fix)
        case _:
            return _odd_answer(error)


def _odd_answer(error: QComputeError) -> Finding:
    match error:
        case BadReply():
            fix = "check the base URL: something else may answer there; else the vendor has changed its interface"
            return Finding(Subject.REACHABLE, Grade.FAILED, f"it answers, not as this vendor: {error.message}", fix)
        case _:
            return Finding(Subject.REACHABLE, Grade.FAILED, error.message, "see the message")


def _not_let_in(error: AuthFailed, told: str) -> Finding:
    if any(word in told for word in _CLOCK):
        text, fix = "this machine's clock is wrong", "set the clock (timedatectl set-ntp true)"
    elif any(word.lower() in told.lower() for word in _EXPIRED):
        text, fix = "the key has expired", "make a new one at the vendor: qcompute connections rotate"
    elif "OptInRequired" in told:
        text, fix = "the account may not use this region", "correct the region, or enable it in the account"
    elif any(word in told for word in _FORBIDDEN) and not any(word in told for word in _UNKNOWN):
        text, fix = (
            "the key is known and may not do this",
            "give it the permissions on the vendor's page in docs/how-to",
        )
    else:
        text, fix = "the key is not accepted", "store the right one: qcompute connections rotate"
    return Finding(Subject.IDENTITY, Grade.FAILED, f"{text}: {error.message}", fix)


def _not_answered(error: Unavailable, told: str) -> Finding:
    if any(word in told for word in _NOT_REACHED):
        text, fix = "no network, or nothing is at that address", "check the network, name resolution, firewall and URL"
    elif any(word in told for word in _SLOW):
        text, fix = "it does not answer in time", "look at the vendor's status page, and try again"
    else:
        text, fix = "it cannot answer now", "look at the vendor's status page, and try again"
    return Finding(Subject.REACHABLE, Grade.FAILED, f"{text}: {error.message}", fix)


def told(subject: Subject, ask: Callable[[], str]) -> Finding:
    """What ``ask`` says, or that the vendor does not say it: an account may not be allowed to see its own limits."""
    try:
        return good(subject, ask())
    except QComputeError as error:
        return notice(subject, f"not known: {error.message}")
