"""What ``neurons/miner.py`` puts around the daemon: the operator port, metrics, traces, alerts."""

from __future__ import annotations

from starlette.routing import Route

from qcompute.console.dashboard.mounting import Dashboard
from qcompute.console.dashboard.pages import PREFIX
from qcompute.console.health import health_of
from qcompute.console.metrics import DaemonMetrics
from qcompute.console.operator_token import operator_token
from qcompute.console.port import OperatorPort, port_file
from qcompute.console.sessions import Sessions
from qcompute.errors import ConfigError
from qcompute.miner.operator import operator_app
from qcompute.miner.parts import Parts
from qcompute.miner.road import Road
from qcompute.miner.settings import Settings
from qcompute.miner.surroundings import Surrounding
from qcompute.miner.watching import TracingSettings


def surround(settings: Settings, parts: Parts) -> list[Surrounding]:
    """All that the settings ask for, the port last: whoever is told of it finds the rest at work.

    Raises:
        ConfigError: a setting cannot work.
    """
    metrics = DaemonMetrics(parts)
    found: list[Surrounding] = [metrics]
    if settings.tracing.endpoint is not None:
        found.append(_tracing(settings.tracing, parts.road))
    if settings.alerts.webhook is not None:
        found += _alerts(settings, parts)
    if settings.operator.enabled:
        token = operator_token(settings.operator, settings.ledger.file)
        sessions = Sessions(token, to_look=settings.operator.token is not None)
        dashboard = Dashboard(settings, parts, sessions)
        found.append(dashboard)
        found.append(
            OperatorPort(
                settings.operator,
                operator_app(parts.ledger, health_of(settings, parts)),
                sessions,
                port_file=port_file(settings.ledger.file),
                axon=(settings.axon.ip, settings.axon.port),
                routes=[Route("/metrics", metrics.serve, methods=["GET"]), *dashboard.routes],
                open_paths=[f"{PREFIX}/"],  # it has a sign-in page of its own
            )
        )
    return found


def _alerts(settings: Settings, parts: Parts) -> list[Surrounding]:
    # Brings its retries' library, two megabytes that a miner without a webhook does not need.
    from qcompute.console.alerts import Alerts, told_file  # noqa: PLC0415
    from qcompute.console.webhook import open_webhook  # noqa: PLC0415

    webhook = open_webhook(settings.alerts)
    return [] if webhook is None else [Alerts(settings.alerts, parts, webhook, kept=told_file(settings.ledger.file))]


def _tracing(settings: TracingSettings, road: Road) -> Surrounding:
    try:
        # Imports OpenTelemetry, which nobody needs who sends no traces.
        from qcompute.console.tracing import Tracing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("qcompute"):
            raise
        raise ConfigError("tracing.endpoint needs OpenTelemetry: pip install 'qcompute[otel]'") from error
    return Tracing(settings, road)
