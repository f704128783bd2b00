"""The ways an HTTP vendor can fail, and what each must come to: for the adapter contract and ``make bench-faults``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from qcompute.errors import AuthFailed, QuotaSpent, Refused, SubmitUnknown, Unavailable, VendorError
from qcompute.local.service import Fault, FaultKind

LATE_SECONDS: Final = 3.0
"""How late a late answer comes; adapters under test are given shorter timeouts."""

_PAGE: Final = b"<!doctype html><title>Maintenance</title><p>We will be back soon."


@dataclass(frozen=True, slots=True)
class VendorFault:
    """One way to fail. ``creates`` says whether a submit that meets it leaves a job behind.

    ``submit`` are the errors a submit may raise; where a vendor's client cannot know more, `SubmitUnknown` is always
    right as well, unless ``provable`` says that every client can know.
    """

    name: str
    kind: FaultKind
    creates: bool
    submit: tuple[type[VendorError], ...]
    provable: bool = False
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    content_type: str = "application/json"

    @property
    def slug(self) -> str:
        """The name as part of an idempotency token."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name)

    def ordered(self, match: str) -> Fault:
        """The fault that befalls the next request that has ``match`` in its ``METHOD /path``."""
        return Fault(
            match=match,
            kind=self.kind,
            status=self.status,
            headers=dict(self.headers),
            seconds=LATE_SECONDS,
            body=self.body,
            content_type=self.content_type,
        )


FAULTS: Final[Sequence[VendorFault]] = (
    VendorFault("dropped before", FaultKind.DROP_BEFORE, False, (SubmitUnknown, Unavailable)),
    VendorFault("dropped after", FaultKind.DROP_AFTER, True, (SubmitUnknown,)),
    VendorFault("answer cut in half", FaultKind.TRUNCATE, True, (SubmitUnknown,)),
    VendorFault("answer too late", FaultKind.LATE, True, (SubmitUnknown,)),
    VendorFault("400", FaultKind.STATUS, False, (Refused,), provable=True, status=400),
    # A log-in that has run out is mended by the adapter, at the next call.
    VendorFault("401", FaultKind.STATUS, False, (AuthFailed, Unavailable), provable=True, status=401),
    VendorFault("403", FaultKind.STATUS, False, (AuthFailed, QuotaSpent), provable=True, status=403),
    VendorFault(
        "429, Retry-After 1", FaultKind.STATUS, False, (Unavailable,), True, status=429, headers={"Retry-After": "1"}
    ),
    VendorFault("429", FaultKind.STATUS, False, (Unavailable,), provable=True, status=429),
    VendorFault("500", FaultKind.STATUS, False, (SubmitUnknown,), status=500),
    VendorFault("created, then 502", FaultKind.STATUS_AFTER, True, (SubmitUnknown,), status=502),
    VendorFault(
        "503, a page of maintenance", FaultKind.STATUS, False, (SubmitUnknown,), body=_PAGE, content_type="text/html"
    ),
    VendorFault(
        "200, a page of maintenance",
        FaultKind.STATUS,
        False,
        (SubmitUnknown,),
        status=200,
        body=_PAGE,
        content_type="text/html",
    ),
    VendorFault("200, empty", FaultKind.STATUS, False, (SubmitUnknown,), status=200, body=b""),
)
"""Fourteen ways. A status comes with a small JSON body of no vendor's form, unless said otherwise."""


class FaultyVendor(Protocol):
    """A vendor's double: it takes orders for faults and counts what an operator would pay for."""

    @property
    def faults(self) -> list[Fault]:
        """Orders not yet used up; append to it."""
        ...

    @property
    def created(self) -> int:
        """Jobs that ever reached the vendor."""
        ...

    @property
    def asked(self) -> list[Any]:
        """Requests as they came in: each has ``method`` and ``path``."""
        ...
