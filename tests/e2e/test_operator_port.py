"""One real daemon, its operator port, and what it tells Prometheus of real jobs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_fd_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from qcompute import meters
from qcompute.console.port import operator_url, port_file
from qcompute.local.miner_process import MinerDied
from qcompute.miner.job import State
from tests.scene import Scene, running_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

JOBS = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene, None]:
    async with running_scene(
        tmp_path_factory.mktemp("operator"), environment={"QCOMPUTE_BUDGET__PER_DAY": "50"}
    ) as running:
        running.add_jobs(JOBS)
        await running.hand_over(JOBS)
        await running.until_in(State.CLOSED, JOBS)
        yield running


async def test_placeholder(scene: Scene) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{scene.miner.operator_url}/metrics") as answer:
        print(await answer.text())
        print(answer.headers)
        assert answer.status == 200
