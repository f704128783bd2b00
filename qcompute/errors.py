"""Every error of qcompute, split by whose fault it is; the class fixes what may follow.

::

    QComputeError
    ├─ Rejected                     the request is wrong               -> tell the caller, never retry
    │  ├─ NotAllowed                  signature, permit, replay
    │  └─ CannotRun                   circuit, gate set, qubits, shots; names the limit
    ├─ VendorError                  the vendor or the road to it
    │  ├─ Unavailable(retry_after)    provably not processed            -> try again later
    │  ├─ SubmitUnknown               may have been processed           -> only find() may follow
    │  ├─ Refused(vendor_code)        the vendor says no to this job    -> verdict refused
    │  ├─ AuthFailed                  our credentials are not accepted  -> stop routing there, tell the operator
    │  ├─ QuotaSpent                  this account may not spend more   -> stop routing there, tell the operator
    │  └─ BadReply(field)             not what we understand            -> a few more tries, then held
    ├─ DeliveryError                the job server or the result host   -> the outbox retries; the job is safe
    │  └─ UploadRefused               this upload URL will never do     -> ask for a new one
    ├─ FetchError                   the host of a circuit
    │  ├─ FetchRefused                the URL or what it gave is not allowed  -> verdict refused
    │  └─ FetchFailed                 the host did not answer well      -> try again until the deadline
    ├─ SandboxUnavailable           no child process could be started   -> try again later
    ├─ BudgetSpent(until)           a budget of the operator's has no room  -> wait; take no new jobs
    ├─ StoreError                   our database                        -> stop claiming, exit if it lasts
    │  └─ StaleRow                    the row is no longer in the state we took it in  -> drop this work
    ├─ ConfigError                  the operator's settings             -> refuse to start; say the exact fix
    └─ Bug                          an invariant of ours broke          -> hold this job, log loudly, go on

No message, code or ``repr`` of an error carries a secret, a URL's query, a header or a body: errors end up in logs,
in the database and at strangers.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar


class QComputeError(Exception):
    """Something went wrong in qcompute.

    ``code`` is stable and is what tests and other programs compare; ``message`` is for people and may change.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or self.code).strip().splitlines()[0]
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class Rejected(QComputeError):
    """The request is wrong; asking again will not help."""

    code = "rejected"


class NotAllowed(Rejected):
    """The caller may not do this.

    ``reason`` is one of the fixed words in `qcompute.axon`; ``status`` the HTTP status a dendrite understands.
    """

    code = "not_allowed"

    def __init__(self, message: str | None = None, *, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class CannotRun(Rejected):
    """This circuit cannot be run here; the message names the limit.

    ``reason`` is a stable word (``too_wide``, ``parse_error`` …), ``line`` the line of the program, from 1, or None.
    """

    code = "cannot_run"

    def __init__(self, message: str | None = None, *, reason: str = "cannot_run", line: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.line = line


class VendorError(QComputeError):
    """The vendor, or the road to it, failed."""

    code = "vendor_error"

    def __init__(self, message: str | None = None, *, vendor_code: str | None = None) -> None:
        super().__init__(message)
        self.vendor_code = vendor_code


class Unavailable(VendorError):
    """The vendor provably did not process this call; try again later."""

    code = "unavailable"

    def __init__(
        self, message: str | None = None, *, vendor_code: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, vendor_code=vendor_code)
        self.retry_after_seconds = retry_after_seconds


class SubmitUnknown(VendorError):
    """A paid call may have been processed; only `find` may follow, never a second submit."""

    code = "submit_unknown"


class Refused(VendorError):
    """The vendor refuses this job."""

    code = "refused"


class AuthFailed(VendorError):
    """The vendor does not accept our credentials."""

    code = "auth_failed"


class QuotaSpent(VendorError):
    """This vendor account may not spend more."""

    code = "quota_spent"


class BadReply(VendorError):
    """The vendor answered something we do not understand; ``field`` names it."""

    code = "bad_reply"

    def __init__(self, message: str | None = None, *, vendor_code: str | None = None, field: str = "") -> None:
        super().__init__(message, vendor_code=vendor_code)
        self.field = field


class DeliveryError(QComputeError):
    """The job server or the result host did not take a delivery; the job is safe.

    ``status`` is the HTTP status, None when there was no answer.
    """

    code = "delivery_failed"

    def __init__(
        self, message: str | None = None, *, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class UploadRefused(DeliveryError):
    """The upload URL is refused or expired; a new one is needed."""

    code = "upload_refused"


class FetchError(QComputeError):
    """A circuit could not be fetched."""

    code = "fetch_error"


class FetchRefused(FetchError):
    """The circuit's URL, or what it gave, is not allowed."""

    code = "fetch_refused"

    def __init__(self, message: str | None = None, *, reason: str = "fetch_refused") -> None:
        super().__init__(message)
        self.reason = reason


class FetchFailed(FetchError):
    """The host of the circuit did not answer well; try again until the deadline."""

    code = "fetch_failed"


class SandboxUnavailable(QComputeError):
    """No sandboxed process could be started; nothing is known about the circuit."""

    code = "sandbox_unavailable"


class BudgetSpent(QComputeError):
    """A budget of this miner has no room for the job before ``until`` (aware UTC), unless others cost less."""

    code = "budget_spent"

    def __init__(self, message: str | None = None, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class StoreError(QComputeError):
    """Our database failed."""

    code = "store_error"


class StaleRow(StoreError):
    """The row is no longer in the state it was taken in."""

    code = "stale_row"


class ConfigError(QComputeError):
    """A setting is missing or wrong; the message names the setting and the fix."""

    code = "config_error"


class Bug(QComputeError):
    """An invariant of qcompute broke; please report it."""

    code = "bug"
