"""What an operator may set about watching the daemon: its own port, traces, alerts. Durations are seconds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, ConfigDict, Field

from qcompute.connections.credentials import checked_name

SecretName = Annotated[str, AfterValidator(checked_name)]
"""The name of a secret (`qcompute.connections.credentials`); the secret itself is refused."""


class OperatorSettings(BaseModel):
    """The operator's own HTTP port: metrics, receipts, jobs, health in detail. Never the axon's port."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """Serve it."""

    host: str = "127.0.0.1"
    """Address it binds. Anything but loopback needs ``operator.token``: every job can be seen there."""

    port: int = Field(default=8092, ge=0, le=65535)
    """0 picks a free port. The port in use stands in the file ``PATH.port`` beside the ledger."""

    token: SecretName | None = None
    """The name of the secret that callers must show, as ``Authorization: Bearer …``: ``operator`` is the variable
    ``QCOMPUTE_SECRET_OPERATOR``, or the file that ``QCOMPUTE_SECRET_OPERATOR_FILE`` names. At least 16 characters:
    ``openssl rand -hex 32``. On loopback nobody needs one unless it is set."""

    allowed_hosts: tuple[str, ...] = ()
    """Names under which the port may be asked for besides those of loopback, as a proxy in front of it passes them on.
    Web pages of strangers that point a name of theirs at this machine are refused."""


class TracingSettings(BaseModel):
    """OpenTelemetry traces: one for each job, sent when it closes. Needs ``pip install 'qcompute[otel]'``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: AnyHttpUrl | None = None
    """Where a collector takes OTLP over HTTP, the whole URL: ``http://127.0.0.1:4318/v1/traces``. Off while not set,
    and then nothing of OpenTelemetry is imported."""

    token: SecretName | None = None
    """The name of the secret sent along as ``Authorization: Bearer …``, for a collector that wants one."""

    service_name: str = Field(default="qcompute", min_length=1, max_length=128)
    """The ``service.name`` of the traces."""


class AlertFormat(StrEnum):
    """What the webhook is sent."""

    JSON = "json"
    """All facts: kind, subject, status, text, since, version."""
    SLACK = "slack"
    """``{"text": …}``, as Slack, Mattermost and Rocket.Chat take it."""


class AlertSettings(BaseModel):
    """Messages to a webhook about what needs the operator, each sent once when it begins and once when it is over.

    A job is held, a budget is nearly used up, a vendor is down, the hotkey is deregistered, a delivery is overdue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: SecretName | None = None
    """The name of the secret that holds the URL, since such URLs are secrets: ``alerts`` is the variable
    ``QCOMPUTE_SECRET_ALERTS``. Off while not set."""

    format: AlertFormat = AlertFormat.JSON
    """How the messages look."""

    signature: SecretName | None = None
    """The name of the secret with which messages are signed: ``X-Qcompute-Signature`` is ``sha256=`` and the
    HMAC-SHA256 of ``X-Qcompute-Timestamp``, a dot and the body."""

    after_seconds: float = Field(default=60, ge=0)
    """What lasts less is not told, nor is what is over for less: a vendor that flickers does not flood anybody."""

    delivery_seconds: float = Field(default=3600, gt=0)
    """A result that could not be delivered for so long is told."""
