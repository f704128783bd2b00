"""The embedded platform, and a client of ours in front of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from qcompute.chain.keys import signer_from_uri
from qcompute.jobserver import JobServerSettings, open_job_server
from qcompute.jobserver.client import HttpJobServer
from qcompute.local.platform import LocalPlatform

SIGNER = signer_from_uri("//jobserver-miner")


@dataclass
class Both:
    platform: LocalPlatform
    client: HttpJobServer
    settings: JobServerSettings


@asynccontextmanager
async def running(**changes: Any) -> AsyncGenerator[Both, None]:
    platform = LocalPlatform()
    await platform.start()
    settings = JobServerSettings.model_validate(
        {
            "url": platform.jobs.url,
            "tensorauth_url": platform.tokens.url,
            "metrics_api_url": platform.telemetry.url,
            "request_timeout_seconds": 2,
            "upload_timeout_seconds": 2,
        }
        | changes
    )
    client = open_job_server(settings, SIGNER)
    try:
        yield Both(platform, client, settings)
    finally:
        await client.close()
        await platform.stop()
