"""A validator that behaves as the subnet's reference does: pulls jobs, queries the axon, collects, reports.

What it does with a reply, the place of its cursor (a SQLite column of type DATETIME, which turns text that looks like
a number into one) and what it swallows are the reference's, as observed (wire document, section 4).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import aiohttp

from qcompute.chain.contract import Signer
from qcompute.local.dendrite import Answer, Dendrite
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR, ExecutionData, ExecutionStatus
from qcompute.units import ExecutionId, Hotkey

_log = logging.getLogger(__name__)

_OK: Final = 200


class Validator:
    """One validator and the one miner it visits."""

    def __init__(
        self,
        signer: Signer,
        *,
        job_server_url: str,
        tensorauth_url: str,
        miner_hotkey: Hotkey,
        miner_port: int,
        database: Path | str = ":memory:",
    ) -> None:
        self.signer = signer
        self.miner_port = miner_port
        self.delivered: list[ExecutionData] = []
        """Every finished row received, in order, repeats included."""
        self.answers: list[Answer] = []
        self._miner = miner_hotkey
        self._jobs = f"{job_server_url}/v1"
        self._tensorauth = tensorauth_url
        self._dendrite = Dendrite(signer)
        self._token: str | None = None
        self._session: aiohttp.ClientSession | None = None
        self._visiting = asyncio.Lock()
        self._database = sqlite3.connect(database, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS last_circuit (miner TEXT PRIMARY KEY, last_circuit DATETIME)"
        )
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS successful_job (execution_id TEXT PRIMARY KEY, upload_id TEXT)"
        )

    @property
    def successes(self) -> dict[str, str]:
        """Execution id to upload id of every job it would pay for."""
        return dict(self._database.execute("SELECT execution_id, upload_id FROM successful_job"))

    async def visit(self) -> Answer:
        """One pass: a job if there is one, else collecting only; then the reports. Passes never overlap."""
        async with self._visiting:
            return await self._visit()

    async def _visit(self) -> Answer:
        job = await self._next_job()
        fields = job or {"execution_id": COLLECT_ONLY, "input_data_url": "", "shots": 0, "configuration_data": {}}
        fields |= {"last_circuit": self._cursor()}
        answer = await self._dendrite.query("127.0.0.1", self.miner_port, self._miner, fields)
        self.answers.append(answer)
        await self._take(fields["execution_id"], answer)
        return answer

    async def log_in(self) -> None:
        """Get a token now, as a validator that has been running has one."""
        await self._bearer(self._open())

    def log_out(self) -> None:
        """Forget the token; the next call gets a new one."""
        self._token = None

    async def run(self, interval_seconds: float) -> None:
        """Visit until cancelled."""
        while True:
            try:
                await self.visit()
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("a visit failed: %s", type(error).__name__)
            await asyncio.sleep(interval_seconds)

    async def close(self) -> None:
        """Close connection and database."""
        if self._session is not None:
            await self._session.close()
        self._database.close()

    async def _take(self, execution_id: str, answer: Answer) -> None:
        real = execution_id != COLLECT_ONLY
        if not answer.success:
            if real:
                await self._fail(execution_id, answer.error_message or "Miner did not respond")
            return
        if real:
            body = (
                {"status": "Failed", "message": "Miner is rate limiting"}
                if answer.rate_limited
                else {"status": answer.execution_status.value}
            )
            await self._patch(execution_id, body)
        if answer.finished and answer.last_circuit is not None:
            self._database.execute(
                "INSERT INTO last_circuit VALUES (?, ?) ON CONFLICT DO UPDATE SET last_circuit = excluded.last_circuit",
                (self._miner, answer.last_circuit),
            )
        for row in answer.finished:
            await self._finished(row)

    async def _finished(self, row: ExecutionData) -> None:
        self.delivered.append(row)
        match row.status:
            case ExecutionStatus.COMPLETED:
                if row.upload_data_id is None:
                    return
                self._database.execute(
                    "INSERT OR IGNORE INTO successful_job VALUES (?, ?)", (row.execution_id, row.upload_data_id)
                )
                body = {
                    "status": "Completed",
                    "upload_id": row.upload_data_id,
                    "execution_data": row.execution_data or {},
                }
                await self._patch(row.execution_id, body)
            case ExecutionStatus.FAILED:
                await self._fail(row.execution_id, row.errorMessage or "Miner reported failure")
            case ExecutionStatus.PENDING | ExecutionStatus.QUEUED | ExecutionStatus.RUNNING:
                return

    async def _fail(self, execution_id: str, message: str) -> None:
        await self._patch(execution_id, {"status": "Failed", "message": message, "execution_data": {}})

    async def _patch(self, execution_id: str, body: dict[str, Any]) -> None:
        try:
            await self._call("PATCH", f"/executions/{ExecutionId(execution_id)}", json=body)
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("a report was lost, as the reference loses it: %s", type(error).__name__)

    async def _next_job(self) -> dict[str, Any] | None:
        status, body = await self._call("GET", "/executions", params={"miner_hotkey": self._miner})
        return json.loads(body) if status == _OK else None

    async def _call(self, method: str, path: str, **more: Any) -> tuple[int, bytes]:  # noqa: ANN401 - aiohttp's own arguments
        session = self._open()
        headers = {"Authorization": f"Bearer {await self._bearer(session)}"}
        async with session.request(method, self._jobs + path, headers=headers, **more) as response:
            return response.status, await response.read()

    async def _bearer(self, session: aiohttp.ClientSession) -> str:
        if self._token is None:
            hotkey = self.signer.hotkey
            signature = base64.b64encode(self.signer.sign(hotkey.encode())).decode()
            claim = {"hotkey": hotkey, "timestamp": str(int(time.time())), "signature": signature, "subnet": 48}
            bearer = base64.b64encode(json.dumps(claim).encode()).decode()
            headers = {"Authorization": f"Bearer {bearer}"}
            async with session.get(f"{self._tensorauth}/token", headers=headers) as response:
                response.raise_for_status()
                self._token = str((await response.json())["access_token"])
        return self._token

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=7.0))
        return self._session

    def _cursor(self) -> str:
        row = self._database.execute("SELECT last_circuit FROM last_circuit WHERE miner = ?", (self._miner,)).fetchone()
        if row is None:
            return FIRST_CURSOR
        if not isinstance(row[0], str):
            raise TypeError("the cursor looked like a number and became one: the reference validator ends here")
        return row[0]
