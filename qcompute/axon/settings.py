"""Where the axon listens, what it puts up with, and who may call it."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _ip_address(text: str) -> str:
    """The chain publishes addresses, no names; told before the start, not at the first publication."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise PydanticCustomError("ip_address", "Input should be an IP address such as 203.0.113.7") from None
    return text


class AxonSettings(BaseModel):
    """The HTTP server validators call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ip: str = "0.0.0.0"  # noqa: S104 - validators are strangers on the internet: being reachable is the purpose
    """Address the server binds."""

    port: int = Field(default=8091, ge=0, le=65535)
    """Port the server binds; 0 picks a free one, for local runs. The chain accepts 1025 to 65534."""

    external_ip: Annotated[str, AfterValidator(_ip_address)] | None = None
    """Address published on the chain; needed unless ``ip`` itself is public. It is never guessed."""

    external_port: int | None = Field(default=None, ge=1, le=65535)
    """Port published on the chain, when a router maps another one to ``port``."""

    freshness_seconds: float = Field(default=30, gt=0, le=600)
    """How old a request may be: a validator gives up after 10 s, the rest is clock difference. Our own window: the
    sender's timeout header is not signed and does not count."""

    forward_skew_seconds: float = Field(default=10, ge=0, le=600)
    """How far a validator's clock may be ahead of ours."""

    max_body_bytes: int = Field(default=65536, ge=4096)
    """A synapse takes about 1 KB; configuration data may make it larger."""

    max_header_bytes: int = Field(default=16384, ge=4096)
    """Request line and headers together; a dendrite sends about 1.2 KB."""

    max_connections: int = Field(default=1024, ge=8)
    """Connections at once. One more takes the place of an idle one of the address that holds most of them."""

    head_timeout_seconds: float = Field(default=5, gt=0)
    """A connection that has not sent a whole request head by then is closed."""

    body_timeout_seconds: float = Field(default=5, gt=0)
    """A request whose body has not arrived by then is answered 408; half of a dendrite's own patience."""

    keep_alive_seconds: int = Field(default=10, ge=1)
    """Idle connections are closed after this; dendrites open a new one for every request anyway."""

    requests_per_second: float = Field(default=50, gt=0)
    """Requests of one validator answered per second over time; the reference visits once in minutes."""

    request_burst: int = Field(default=200, ge=1)
    """Requests of one validator answered at once, before the rate holds."""


class BlacklistSettings(BaseModel):
    """Who may call. The defaults let in validators that the subnet itself trusts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    force_validator_permit: bool = True
    """Only hotkeys with a validator permit may call. Off: anyone in the metagraph may spend your account's money."""

    allow_non_registered: bool = False
    """Let in hotkeys outside the metagraph. For private tests only."""

    min_stake: float = Field(default=1000.0, ge=0)
    """Least total stake of a caller, in the subnet's own units."""

    allowed_hotkeys: tuple[str, ...] = ()
    """Hotkeys that may call whatever their permit and stake say."""

    denied_hotkeys: tuple[str, ...] = ()
    """Hotkeys that may never call."""
