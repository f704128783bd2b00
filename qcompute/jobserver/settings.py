"""Where the platform's job server, token service and telemetry are, and how patient we are with them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class JobServerSettings(BaseModel):
    """The platform. ``url`` and ``tensorauth_url`` have no default: miners get them when they are onboarded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(min_length=1)
    """Base URL of the job server, without the version (JOB_SERVER_URL)."""

    tensorauth_url: str = Field(min_length=1)
    """Base URL of the token service (TENSORAUTH_URL)."""

    api_version: str = Field(default="1", pattern=r"^[0-9A-Za-z._-]{1,16}$")
    """Version of the job server's API: ``1`` makes ``URL/v1/…`` (API_VERSION)."""

    metrics_api_url: str = "https://telemetry.openquantum.com"
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
