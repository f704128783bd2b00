"""Where the platform's job server, token service and telemetry are, and how patient we are with them."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

ADDRESS = "address"
"""The kind of fault of an address that will not do. What shows faults leaves out the value: it may hold a password."""


def address_fault(url: str) -> str | None:
    """What is wrong with a base URL, to follow its name; None when it will do. Never shows the URL."""
    try:
        parsed = urlsplit(url)
        _ = parsed.port  # refuses what is no number
    except ValueError:
        return "is not a URL; it must look like https://host"
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        return "must be an https:// URL"
    if parsed.username is not None or parsed.password is not None or parsed.query or parsed.fragment:
        return "must be https://host/path, without a user name, a query or a fragment"
    return None


def plain_text_fault(url: str, listed: Collection[str]) -> str | None:
    """What is wrong with the way to a base URL that is sound: plain http to another machine that is not listed."""
    parsed = urlsplit(url)
    host = parsed.hostname or ""
    if parsed.scheme == "https" or _is_here(host) or host in {one.lower() for one in listed}:
        return None
    return f"must be https:// (or list {host} in jobserver.allow_http_hosts)"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sound(url: str) -> str:
    if (fault := address_fault(url)) is not None:
        raise PydanticCustomError(ADDRESS, "{fault}", {"fault": fault})
    return url


def _sound_or_empty(url: str) -> str:
    return _sound(url) if url else url


class JobServerSettings(BaseModel):
    """The platform. ``url`` and ``tensorauth_url`` have no default: miners get them when they are onboarded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_sound)]
    """Base URL of the job server, without the version (JOB_SERVER_URL)."""

    tensorauth_url: Annotated[str, AfterValidator(_sound)]
    """Base URL of the token service (TENSORAUTH_URL)."""

    api_version: str = Field(default="1", pattern=r"^[0-9A-Za-z._-]{1,16}$")
    """Version of the job server's API: ``1`` makes ``URL/v1/…`` (API_VERSION)."""

    metrics_api_url: Annotated[str, AfterValidator(_sound_or_empty)] = "https://telemetry.openquantum.com"
    """Base URL of the telemetry service (METRICS_API_URL); empty switches telemetry off."""

    subnet: int = Field(default=48, ge=0)
    """The subnet named in the token claim."""

    request_timeout_seconds: float = Field(default=10, gt=0)
    """The longest one call to the platform may take; the outbox tries again by itself."""

    connect_timeout_seconds: float = Field(default=5, gt=0)
    """The longest a connection may take to be made."""

    upload_timeout_seconds: float = Field(default=30, gt=0)
    """The longest one upload may take."""

    allow_http_hosts: tuple[str, ...] = ()
    """Hosts that may be spoken to without TLS, besides this machine itself: tokens cross the network in plain text."""

    @model_validator(mode="after")
    def _in_plain_text_only_where_listed(self) -> Self:
        for name in ("url", "tensorauth_url", "metrics_api_url"):
            url: str = getattr(self, name)
            if url and (fault := plain_text_fault(url, self.allow_http_hosts)) is not None:
                raise PydanticCustomError(ADDRESS, "{name} {fault}", {"name": name, "fault": fault})
        return self
