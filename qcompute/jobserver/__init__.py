"""Client of the platform: token, uploads, failures, backend status, telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompute.chain.contract import Signer
from qcompute.jobserver.settings import JobServerSettings

if TYPE_CHECKING:
    from qcompute.jobserver.client import HttpJobServer


def open_job_server(settings: JobServerSettings, signer: Signer) -> HttpJobServer:
    """The client; connects to nothing yet.

    Raises:
        ConfigError: a URL cannot be used; the text names the variable.
    """
    # aiohttp takes 0.3 s to load, and every command of the console imports the settings beside this.
    from qcompute.jobserver.client import HttpJobServer  # noqa: PLC0415 - see above

    return HttpJobServer(settings, signer)


__all__ = ["JobServerSettings", "open_job_server"]
