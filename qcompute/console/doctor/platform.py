"""The platform: job server and token service, and their clock beside ours."""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from qcompute.chain.contract import Signer
from qcompute.console.doctor.findings import Finding, failed, ok, unknown, warning
from qcompute.errors import ConfigError, DeliveryError
from qcompute.jobserver.settings import JobServerSettings
from qcompute.jobserver.token import TokenSource
from qcompute.jobserver.web import checked_base, new_session

TOLERABLE_SECONDS: Final = 3.0
"""A Date header tells whole seconds, and the way takes its time."""
WORST_SECONDS: Final = 10.0
"""Validators' requests are stamped; ours to the token service too."""


async def job_server(settings: JobServerSettings) -> tuple[Finding, float | None]:
    """Whether anything answers there; any HTTP status does. And by how many seconds our clock is ahead of its."""
    subject = "job server"
    try:
        base = checked_base(settings.url, "JOB_SERVER_URL", settings)
    except ConfigError as error:
        return failed(subject, str(error), "set JOB_SERVER_URL as the subnet's documentation says"), None
    host = base.split("//", 1)[1].split("/", 1)[0]
    session = new_session(
        total_seconds=settings.request_timeout_seconds, connect_seconds=settings.connect_timeout_seconds
    )
    try:
        async with session:
            began = time.time()
            async with session.get(base + "/", allow_redirects=False) as answer:
                ahead = _ahead_seconds(answer.headers.get("Date"), began, time.time())
                return ok(subject, f"{host} answers"), ahead
    except aiohttp.ClientConnectorCertificateError:
        fix = "its certificate is not accepted: check this machine's clock and its CA certificates"
        return failed(subject, f"{host} is not who it says", fix), None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        fix = "check JOB_SERVER_URL and this machine's network; finished results wait in the ledger meanwhile"
        return failed(subject, f"{host} does not answer ({type(error).__name__})", fix), None


async def token_service(settings: JobServerSettings, signer: Signer | None) -> Finding:
    """Whether it gives our hotkey a token."""
    subject = "token service"
    if signer is None:
        return unknown(subject, "not asked: there is no hotkey to sign with", "mend the wallet first")
    try:
        source = TokenSource(settings, signer, is_logged=False)
    except ConfigError as error:
        return failed(subject, str(error), "set TENSORAUTH_URL as the subnet's documentation says")
    try:
        await source.get()
    except DeliveryError as error:
        if error.status in (401, 403):
            fix = "register the hotkey, and check the clock: the platform does not know who signed"
            return failed(subject, f"it refuses this hotkey ({error.status})", fix)
        fix = "check TENSORAUTH_URL and this machine's network; deliveries wait meanwhile, nothing is lost"
        return failed(subject, str(error), fix)
    finally:
        await source.close()
    return ok(subject, "it gives this hotkey a token")


def clock(ahead_seconds: float | None) -> Finding:
    """Our clock beside the job server's; None when that is not known."""
    subject = "clock"
    fix = "switch time synchronisation on: timedatectl set-ntp true"
    if ahead_seconds is None:
        return unknown(subject, "no server told the time", f"compare `date -u` with a phone; {fix}")
    words = f"{abs(ahead_seconds):.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} the job server"
    if abs(ahead_seconds) > WORST_SECONDS:
        return failed(subject, f"{words}: validators' requests look old or from the future", fix)
    if abs(ahead_seconds) > TOLERABLE_SECONDS:
        return warning(subject, words, fix)
    return ok(subject, "agrees with the job server's")


def _ahead_seconds(date: str | None, began: float, ended: float) -> float | None:
    if date is None:
        return None
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    told = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
    # The header has whole seconds, cut off.
    return (began + ended) / 2 - (told.timestamp() + 0.5)
