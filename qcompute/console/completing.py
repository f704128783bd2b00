"""Completions that need the ledger: ids of jobs. Any trouble means no completions: a shell is no place for an error."""

from __future__ import annotations

from typing import Final

import typer

from qcompute.console.arguments import invocation_of
from qcompute.errors import QComputeError
from qcompute.miner.job import Job, State

_MOST: Final = 50


def execution_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest jobs whose id begins so, each with its state."""
    return _ids(ctx, incomplete, ())


def held_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The held jobs whose id begins so, each with its problem."""
    return _ids(ctx, incomplete, (State.HELD,))


def unfinished_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The jobs whose id begins so that have not ended."""
    return _ids(ctx, incomplete, (State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING))


def undelivered_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The jobs whose id begins so that are to be delivered."""
    return _ids(ctx, incomplete, (State.SETTLED,))


def _ids(ctx: typer.Context, incomplete: str, states: tuple[State, ...]) -> list[tuple[str, str]]:
    from qcompute.console.rows import Filter, Rows  # noqa: PLC0415 - the shell asks for options far more often

    try:
        rows = Rows(invocation_of(ctx).settings())
        jobs = rows.jobs(Filter(states=states, text=incomplete or None), limit=_MOST)
    except QComputeError:
        return []
    return [(job.execution_id, _said(job)) for job in jobs if job.execution_id.startswith(incomplete)]


def _said(job: Job) -> str:
    return f"{job.state} {job.error_code or job.verdict or ''}".strip()
