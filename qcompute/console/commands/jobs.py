"""``qcompute jobs …``: look at jobs, and decide about those that are held."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from qcompute.console import deciding
from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for, tell_left_out
from qcompute.console.completing import execution_ids, held_ids, undelivered_ids, unfinished_ids
from qcompute.console.exit_codes import ExitCode
from qcompute.console.exporting import ExportFormat, write_jobs
from qcompute.console.following import follow
from qcompute.console.histogram import histogram
from qcompute.console.output import Output, Style, duration_text
from qcompute.console.rows import Filter, Rows
from qcompute.console.times import moment
from qcompute.console.words import (
    Choice,
    advice_of,
    choices_of,
    held_because,
    nowhere_words,
    placement_of,
    placement_words,
    road_of,
    shown_job,
)
from qcompute.errors import ConfigError
from qcompute.miner.commands import Adopt, Cancel, CommandRefused, Fail, Release, RetryDelivery
from qcompute.miner.job import Charge, Job, Outcome, State, Verdict
from qcompute.miner.operator import job_document

_ERROR_WIDTH: Final = 70

_Id = Annotated[str, typer.Argument(metavar="ID", autocompletion=execution_ids)]
_HeldId = Annotated[str, typer.Argument(metavar="ID", autocompletion=held_ids)]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="why, for the log")]
_States = Annotated[list[State] | None, typer.Option("--state", help="in one of these states; may be given again")]
_Verdicts = Annotated[list[Verdict] | None, typer.Option("--verdict", help="that ended so; may be given again")]
_Validator = Annotated[str | None, typer.Option(metavar="SS58", help="of this validator")]
_Account = Annotated[
    str | None, typer.Option(metavar="NAME", help="at this account: a provider's key, or a name of the cluster")
]
_Device = Annotated[str | None, typer.Option(metavar="DEVICE_ID", help="on this device")]
_Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="received since: 90s, 15m, 2h, 3d ago, or 2026-11-21T14:00 in UTC")
]
_Text = Annotated[str | None, typer.Option(metavar="TEXT", help="with this in an id, a place or a problem")]


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the group."""
    ours = group(summary)
    for word, function in (
        ("list", list_),
        ("show", show),
        ("tail", tail),
        ("export", export),
        ("cancel", cancel),
        ("retry-delivery", retry_delivery),
        ("release", release),
        ("fail", fail),
        ("adopt", adopt),
    ):
        command(ours, word, function)
    app.add_typer(ours, name=name)


def list_(
    ctx: typer.Context,
    *,
    state: _States = None,
    verdict: _Verdicts = None,
    validator: _Validator = None,
    account: _Account = None,
    device: _Device = None,
    since: _Since = None,
    text: _Text = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="at most so many")] = 50,
    offset: Annotated[int, typer.Option(metavar="N", min=0, help="leave out the first so many")] = 0,
    json: Json = False,
) -> int:
    """List jobs, the newest first.

    Filters add up. Reads only; the daemon may be running.
    """
    rows = Rows(invocation_of(ctx).settings())
    wanted = _filter(state, verdict, validator, account, device, since, text)
    jobs, total = rows.jobs(wanted, limit=limit, offset=offset), rows.count(wanted)
    output = output_for(as_json=json)
    more = offset + len(jobs)
    if json:
        following = more if more < total else None
        documents = [job_document(job) for job in jobs]
        output.document({"jobs": documents, "total": total, "offset": offset, "next_offset": following})
        return ExitCode.DONE
    columns = ("ID", "STATE", "RECEIVED", "AT", "VENDOR'S JOB", "WHY")
    output.table(columns, [_row(job) for job in jobs], empty="no such jobs")
    if more < total:
        output.line(f"{offset + 1} to {more} of {total}; the next: --offset {more}", Style.FAINT)
    return ExitCode.DONE


def _filter(  # noqa: PLR0917 - one for each option
    states: list[State] | None,
    verdicts: list[Verdict] | None,
    validator: str | None,
    account: str | None,
    device: str | None,
    since: str | None,
    text: str | None,
) -> Filter:
    received = None if since is None else moment(since)
    return Filter(states or (), verdicts or (), validator, account, device, received, text)


def _row(job: Job) -> tuple[str, ...]:
    state = f"{job.state} {job.verdict}" if job.verdict else str(job.state)
    why = f"{job.error_code}: {job.error}" if job.error_code else ""
    if job.state is State.HELD:
        why = f"until {job.due_at:%m-%d %H:%M} UTC: {why}"
    place = "/".join(part for part in (job.provider, job.device_id) if part) or "-"
    received = f"{job.received_at:%Y-%m-%d %H:%M:%S}"
    return job.execution_id, state, received, place, job.provider_job_id or "-", why[:_ERROR_WIDTH]


def show(ctx: typer.Context, execution_id: _Id, *, json: Json = False) -> int:
    """All about one job: its road with durations, why it is where it is, what went wrong and what to do.

    No URL, no circuit. The daemon may be running.
    """
    invocation = invocation_of(ctx)
    rows = Rows(invocation.settings())
    job = rows.job(execution_id)
    if job is None:
        raise CommandRefused(f"there is no job {execution_id} in {rows.name}")
    outcome, charge, parts = rows.outcome(execution_id), rows.charge(execution_id), rows.parts(execution_id)
    output = output_for(as_json=json)
    if json:
        whole = shown_job(job, outcome, charge, parts, invocation.again)
        output.document(whole | {"secrets_left_out": invocation.left_out() if whole["choices"] else None})
        return ExitCode.DONE
    _show_facts(job, outcome, charge, parts, output)
    steps = [
        (step.at, step.name, "" if step.seconds is None else duration_text(step.seconds), step.note)
        for step in road_of(job)
    ]
    output.line()
    output.table(("TIME (UTC)", "STEP", "AFTER", ""), steps, empty="")
    if (placement := placement_of(job)) is not None:
        output.line()
        output.panel("why there", placement_words(placement))
    elif outcome is not None and (lines := nowhere_words(outcome)):
        output.line()
        output.panel("why nowhere", lines)
    if job.state is State.HELD:
        output.line()
        _show_held(job, choices_of(job, charge, invocation.again), output)
        tell_left_out(invocation, output)
    elif job.error_code is not None:
        output.line()
        output.panel(f"problem: {job.error_code}", [job.error or "", f"to do: {advice_of(job)}"], Style.WARNING)
    return ExitCode.DONE


def _show_facts(job: Job, outcome: Outcome | None, charge: Charge | None, parts: list[Job], output: Output) -> None:
    output.facts(
        {
            "job": job.execution_id,
            "state": f"{job.state}{f', {job.verdict}' if job.verdict else ''}",
            "shots": job.shots,
            "at": "/".join(part for part in (job.provider, job.device_id) if part) or None,
            "vendor's job": job.provider_job_id,
            "vendor's word": job.vendor_status,
            "expected cost": job.estimate,
            "counted": None if charge is None else f"{charge.money} ({'settled' if charge.settled_at else 'reserved'})",
            "cost": None if outcome is None or outcome.cost is None else f"{outcome.cost} ({outcome.cost_kind})",
            "looked at by": job.due_at if job.verdict is None else None,
            "deadline": job.deadline_at if job.verdict is None else None,
            "tries of this step": job.attempts or None,
            "part of": job.parent_id,
            "parts": ", ".join(f"{part.execution_id} {part.state}" for part in parts) or None,
            "upload": job.upload_id,
            "circuit sha256": job.circuit_sha256,
            "options": job.configuration_data or None,
        }
    )
    if outcome is not None and outcome.counts:
        output.line()
        histogram(outcome.counts, output)


def _show_held(job: Job, choices: list[Choice], output: Output) -> None:
    output.panel("held: an operator must decide", [*held_because(job), f"To do: {advice_of(job)}."], Style.BAD)
    for choice in choices:  # outside the frame, whose edges would be pasted too
        output.line()
        output.command(choice.command, Style.HEADING)
        output.line(f"    does: {choice.effect}")
        output.line(f"    pays: {choice.money}")


def tail(
    ctx: typer.Context,
    execution_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="one job, until it is closed", autocompletion=unfinished_ids)
    ] = None,
    *,
    seconds: Annotated[float | None, typer.Option("--for", metavar="SECONDS", min=0, help="end after so long")] = None,
    json: Json = False,
) -> int:
    """Follow jobs live: a line for each step of each job, until Ctrl-C.

    With --json each is one JSON document on a line of its own. Exit code 1: the job that was followed did not succeed.
    """
    rows = Rows(invocation_of(ctx).settings())
    return follow(rows, execution_id, output_for(as_json=json), limit_seconds=seconds)


def export(
    ctx: typer.Context,
    *,
    state: _States = None,
    verdict: _Verdicts = None,
    validator: _Validator = None,
    account: _Account = None,
    device: _Device = None,
    since: _Since = None,
    text: _Text = None,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="JSON lines with all fields, or CSV for spreadsheets")
    ] = ExportFormat.JSONL,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="a new file; standard output if left out")] = None,
    json: Json = False,
) -> int:
    """Write jobs out, the oldest first, as JSON lines or CSV.

    With --json the one document says how many were written to FILE; without FILE it holds the jobs themselves. Reads
    only; the daemon may be running.
    """
    wanted = _filter(state, verdict, validator, account, device, since, text)
    output = output_for(as_json=json)
    with Rows(invocation_of(ctx).settings()).each(wanted) as found:
        if to is not None:
            with _new_file(to) as file:
                count = write_jobs(found, form, file)
            if json:
                output.document({"file": to, "format": form, "count": count})
            else:
                output.line(f"{count} jobs are in {to}")
        elif json:
            documents = _documents(found)
            output.document({"jobs": documents, "total": len(documents)})
        else:
            write_jobs(found, form, sys.stdout)
    return ExitCode.DONE


def _documents(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    return [job_document(job) for job in jobs]


def _new_file(path: Path) -> TextIO:
    try:
        return path.open("x", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"--to {path} cannot be written ({error.strerror}); name a new file") from error


def cancel(
    ctx: typer.Context,
    execution_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=unfinished_ids)],
    *,
    reason: _Reason = "",
    json: Json = False,
) -> int:
    """Call off a job that has not ended.

    Before its submit it ends at once and costs nothing. Afterwards its vendor is asked to cancel it, and what that
    costs is the vendor's to say. A held job is not cancelled: fail it. A running daemon is told; with none running the
    ledger is changed itself.
    """
    return deciding.decide(ctx, Cancel, json=json, execution_id=execution_id, reason=reason)


def retry_delivery(
    ctx: typer.Context,
    execution_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=undelivered_ids)],
    *,
    json: Json = False,
) -> int:
    """Try the delivery of a result now instead of after the pause.

    A running daemon is told; with none running the ledger is changed itself.
    """
    return deciding.decide(ctx, RetryDelivery, json=json, execution_id=execution_id)


def release(
    ctx: typer.Context,
    execution_id: _HeldId,
    *,
    never_submitted: Annotated[
        bool,
        typer.Option(
            "--never-submitted",
            help="you have seen that the vendor has no such job: submit it. If it has, you pay twice",
        ),
    ] = False,
    reason: _Reason = "",
    json: Json = False,
) -> int:
    """Let a held job go on where it was held.

    One that has a vendor's job is polled again, one that may have been submitted is looked for again. A running daemon
    is told; with none running the ledger is changed itself.
    """
    return deciding.decide(
        ctx, Release, json=json, execution_id=execution_id, reason=reason, never_submitted=never_submitted
    )


def fail(
    ctx: typer.Context,
    execution_id: _HeldId,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="why: its user is told, and the log")],
    json: Json = False,
) -> int:
    """End a held job as failed.

    Its user is told the reason. A running daemon is told; with none running the ledger is changed itself.
    """
    return deciding.decide(ctx, Fail, json=json, execution_id=execution_id, reason=reason)


def adopt(
    ctx: typer.Context,
    execution_id: _HeldId,
    provider_job_id: Annotated[str, typer.Argument(metavar="PROVIDER_JOB_ID", help="the vendor's own id of it")],
    *,
    reason: _Reason = "",
    json: Json = False,
) -> int:
    """Take a job of the vendor's for a held job, and wait for its result.

    Look twice: another's job gives this one another's result. One that belongs to another job here is refused. A
    running daemon is told; with none running the ledger is changed itself.
    """
    return deciding.decide(
        ctx, Adopt, json=json, execution_id=execution_id, reason=reason, provider_job_id=provider_job_id
    )
