"""Client of the platform: token, uploads, failures, backend status, telemetry."""

from qcompute.chain.contract import Signer
from qcompute.jobserver.client import HttpJobServer
from qcompute.jobserver.settings import JobServerSettings


def open_job_server(settings: JobServerSettings, signer: Signer) -> HttpJobServer:
    """The client; connects to nothing yet.

    Raises:
        ConfigError: a URL cannot be used; the text names the variable.
    """
    return HttpJobServer(settings, signer)


__all__ = ["HttpJobServer", "JobServerSettings", "open_job_server"]
