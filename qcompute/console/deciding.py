"""What changes a job: told to the running daemon, or done to the ledger itself when none runs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import typer

from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.rows import Rows
from qcompute.console.sources import told
from qcompute.errors import ConfigError
from qcompute.ledger import open_ledger
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.commands import AboutJob, CommandRefused, OperatorCommands
from qcompute.miner.job import Job
from qcompute.miner.road import Road
from qcompute.miner.settings import Settings
from qcompute.protocol import ExecutionStatus
from qcompute.units import ProviderKey, utc_now


def decide(ctx: typer.Context, kind: type[AboutJob], *, json: bool, **given: Any) -> ExitCode:  # noqa: ANN401 - the fields of ``kind``
    """Make the command, have it done, and say how the job is now.

    Raises:
        ConfigError: an argument will not do, or there is no ledger.
        CommandRefused: this cannot be done with this job now.
        StoreError: the database failed.
    """
    try:
        words: AboutJob = kind.model_validate(given)
    except ValueError as error:
        raise ConfigError("an id, or the reason, is empty or too long") from error
    settings = invocation_of(ctx).settings()
    answer = told(settings, words)
    if answer is None:
        # Nobody listens: the ledger's own lock says whether that is because no daemon runs.
        answer = asyncio.run(_directly(words, settings))
    output = output_for(as_json=json)
    if json:
        names = ("execution_id", "state", "verdict")
        output.document({"command": words.command, **{name: answer[name] for name in names}})
    else:
        asked = " and is asked to end" if words.command == "cancel" and answer["verdict"] is None else ""
        output.line(f"{words.execution_id} is {answer['state']}{asked}")
    return ExitCode.DONE


async def _directly(command: AboutJob, settings: Settings) -> dict[str, Any]:
    """With no daemon running, do it to the ledger."""
    rows = Rows(settings)
    if rows.job(command.execution_id) is None:
        # Before the wallet is asked for: a wrong id or a wrong ledger needs no password.
        raise CommandRefused(f"there is no job {command.execution_id} in {rows.name}")
    from qcompute.chain.keys import load_signer  # noqa: PLC0415 - bittensor is loaded only to sign

    signer = load_signer(settings.wallet)
    ledger = open_ledger(settings.ledger)
    try:
        provider = ProviderKey(settings.provider)
        budget = Budget(provider, settings.budget, clock=utc_now)
        await budget.load(ledger)
        road = Road(ledger, signer, _Silent(), budgets=Budgets([budget]), clock=utc_now)
        job = await OperatorCommands(road, provider).run(command, uid=os.getuid())
        return {"execution_id": job.execution_id, "state": job.state, "verdict": job.verdict}
    finally:
        await ledger.close()


class _Silent:
    """No telemetry: the daemon is not running."""

    def status_changed(self, job: Job, old: ExecutionStatus, new: ExecutionStatus) -> None:
        """Tell nobody."""
