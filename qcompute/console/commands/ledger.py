"""``qcompute ledger …``: back up, check, restore, take over."""

from __future__ import annotations

import sys
from collections.abc import Generator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Output, Style
from qcompute.errors import ConfigError, StoreError
from qcompute.ledger import require_driver
from qcompute.ledger.backup import make_backup, sha256_of
from qcompute.ledger.check import CheckReport, check_ledger
from qcompute.ledger.database import prepare_folder
from qcompute.ledger.import_reference import Became, ImportPlan
from qcompute.ledger.import_reference import import_reference as take_over
from qcompute.ledger.lock import LedgerLock
from qcompute.ledger.restore import Marked, floor_of
from qcompute.ledger.restore import restore as put_back
from qcompute.miner.opening import AccountOpener
from qcompute.miner.providers import registry
from qcompute.miner.router import token_of
from qcompute.miner.settings import Settings
from qcompute.units import ProviderKey, utc_now

_MEBI: Final = 1 << 20

_UNREADABLE_TOLD: Final = 20


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the group."""
    ours = group(summary)
    command(ours, "backup", backup)
    command(ours, "check", check)
    command(ours, "restore", restore)
    command(ours, "move", move)
    command(ours, "mark-restored", mark_restored)
    command(ours, "import-reference", import_reference)
    app.add_typer(ours, name=name)


def _settings(ctx: typer.Context) -> Settings:
    settings = invocation_of(ctx).settings()
    if settings.ledger.url is not None:
        raise ConfigError(
            f"qcompute ledger {ctx.info_name} works on SQLite files only, and ledger.url is set: back Postgres up with "
            "pg_dump (docs/how-to/postgres.md), or name a file with --ledger.url= --ledger.path FILE"
        )
    return settings


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="where to; the folder must exist")],
    *,
    force: Annotated[bool, typer.Option("--force", help="replace FILE and FILE.key if they exist")] = False,
    json: Json = False,
) -> int:
    """Copy the ledger of a running or stopped daemon.

    The copy is the state of one moment, for its owner alone, and checked before it gets its name. The key of the
    stored URLs is copied to FILE.key. The daemon is not held up.
    """
    ledger = _settings(ctx).ledger.file
    made = make_backup(ledger, file, force=force)
    output = output_for(as_json=json)
    if json:
        output.document(
            {
                "ledger": ledger,
                "file": made.file,
                "key": made.key,
                "rows": made.rows,
                "size_bytes": made.size_bytes,
                "schema": made.revision,
                "sha256": made.sha256,
                "seconds": made.seconds,
            }
        )
        return ExitCode.DONE
    rows = ", ".join(f"{count} {name}" for name, count in made.rows.items() if count)
    output.facts(
        {
            "copied": ledger,
            "to": made.file,
            "key": made.key or "none: the ledger has no key",
            "rows": rows or "none",
            "size": f"{made.size_bytes / _MEBI:.2f} MiB",
            "schema": made.revision,
            "sha256": made.sha256,
            "time": f"{made.seconds:.2f} s, checked",
        }
    )
    return ExitCode.DONE


def check(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="a copy; the daemon's own ledger if left out")
    ] = None,
    *,
    hotkey: Annotated[
        str | None, typer.Option(metavar="SS58", help="who must have signed the receipts; any one hotkey if left out")
    ] = None,
    json: Json = False,
) -> int:
    """Look through a ledger, or a copy of one, for anything wrong.

    The file, its schema, every row and its parts, the order of closing, the key, and the signature of every receipt.
    Reads only; the daemon may be running.
    """
    settings = _settings(ctx)
    report = check_ledger(file or settings.ledger.file, hotkey=hotkey)
    output = output_for(as_json=json)
    sha256 = None if file is None else sha256_of(file)
    if json:
        output.document({**_report_document(report), "sha256": sha256})
    else:
        _tell(report, output)
        if sha256 is not None:
            output.line(f"sha256    {sha256}")
    return ExitCode.DONE if report.is_sound else ExitCode.FAILED


def _report_document(report: CheckReport) -> dict[str, Any]:
    return {
        "ledger": report.file,
        "is_sound": report.is_sound,
        "is_database": report.is_database,
        "schema": report.revision,
        "rows": report.rows,
        "states": report.states,
        "receipts_by_signer": report.signers,
        "problems": report.problems,
    }


def _tell(report: CheckReport, output: Output) -> None:
    output.line(f"ledger    {report.file}")
    if report.is_database:
        output.line(f"schema    {report.revision}")
        states = "".join(f", {count} {state}" for state, count in report.states.items())
        output.line(f"jobs      {report.rows.get('jobs', 0)}{states}")
        for hotkey, count in report.signers.items():
            output.line(f"receipts  {count} signed by {hotkey}")
    for problem in report.problems:
        output.line(f"WRONG     {problem}", Style.BAD)
    if report.is_sound:
        output.line("result    sound", Style.GOOD)
    else:
        output.line("result    something is wrong", Style.BAD)


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the copy, with its key in FILE.key")],
    *,
    force: Annotated[bool, typer.Option("--force", help="also a copy in which check finds something wrong")] = False,
    json: Json = False,
) -> int:
    """Put a copy in the place of the ledger; the daemon must be stopped.

    The copy is checked first, and the replaced ledger kept beside it as NAME.before-restore-TIME. Whatever may have
    been submitted since the copy is looked for at the vendor before anything is submitted. Jobs accepted since the
    copy are not in it. Requests signed before the restore are refused from then on.
    """
    settings = _settings(ctx)
    ledger, known = settings.ledger.file, AccountOpener(settings).accounts()
    with _lock(ledger):
        _require_sound(file, force=force)
        restored = put_back(
            file,
            ledger,
            token_of=token_of,
            now=utc_now(),
            ahead_seconds=settings.axon.forward_skew_seconds,
            forget_urls=settings.ledger.forget_unreadable_urls,
        )
    output = output_for(as_json=json)
    if json:
        output.document(
            {
                "ledger": ledger,
                "file": file,
                "replaced": restored.aside,
                "to_look_for": restored.marked.to_look_for,
                "latest_received_at": restored.marked.latest_received_at,
                "accounts_not_here": sorted(restored.marked.accounts - known),
            }
        )
        return ExitCode.DONE
    output.facts(
        {
            "restored": ledger,
            "from": file,
            "replaced": restored.aside or "nothing: there was no ledger",
            **_unknown(restored.marked, known),
        }
    )
    return ExitCode.DONE


def _unknown(marked: Marked, known: AbstractSet[str]) -> dict[str, str | None]:
    latest = marked.latest_received_at
    gone = ", ".join(sorted(marked.accounts - known))
    last = "the copy has no jobs" if latest is None else f"the last job in the copy came {latest:%Y-%m-%d %H:%M:%S} UTC"
    return {
        "to find": f"{marked.to_look_for} jobs may have been submitted since; the daemon looks before it submits",
        "lost": f"{last}; later ones are not in it",
        "not asked": f"{gone}, where the copy has jobs, and which the settings do not have: others may have gone there "
        "since, so put it back before the daemon starts"
        if gone
        else None,
    }


def mark_restored(ctx: typer.Context, *, json: Json = False) -> int:
    """After a dump was put into the Postgres database of ledger.url; every daemon must be stopped.

    What `restore` does for a file: whatever may have been submitted since the dump is looked for at the vendor before
    anything is submitted, and requests signed before now are refused.
    """
    settings = _settings_of_database(ctx)
    known = AccountOpener(settings).accounts()
    with require_driver():
        from qcompute.ledger.move import mark_database  # noqa: PLC0415 - only where psycopg is installed
    floor_ns = floor_of(utc_now(), settings.axon.forward_skew_seconds)
    marked = mark_database(settings.ledger, token_of, floor_ns)
    output = output_for(as_json=json)
    if json:
        output.document(
            {
                "to_look_for": marked.to_look_for,
                "latest_received_at": marked.latest_received_at,
                "accounts_not_here": sorted(marked.accounts - known),
            }
        )
    else:
        output.facts(_unknown(marked, known))
    return ExitCode.DONE


def move(ctx: typer.Context, *, json: Json = False) -> int:
    """Move the SQLite file of ledger.path into the empty Postgres database of ledger.url; the daemon must be stopped.

    The file is checked first; every row is copied, read back and compared, in one transaction. Then the file is called
    NAME.moved, and no daemon starts on it by mistake. Validators' cursors go on. Broken off, it is ended by a second
    run.
    """
    settings = _settings_of_database(ctx)
    with require_driver():
        from qcompute.ledger.move import move as move_to_database  # noqa: PLC0415 - only where psycopg is installed
    ledger = settings.ledger.file
    with _lock(ledger):
        if ledger.exists():
            _require_sound(ledger)
        moved = move_to_database(settings.ledger)
    output = output_for(as_json=json)
    if json:
        output.document({"ledger": ledger, "aside": moved.aside, "rows": moved.rows})
        return ExitCode.DONE
    rows = ", ".join(f"{count} {name}" for name, count in moved.rows.items() if count)
    output.facts(
        {
            "moved": ledger,
            "rows": rows or ("none" if moved.rows else "copied before; this run had only the file's name to change"),
            "the file": moved.aside,
            "key": f"{settings.ledger.key}: copy it to every machine that is to work on this ledger, mode 600",
        }
    )
    return ExitCode.DONE


def _settings_of_database(ctx: typer.Context) -> Settings:
    settings = invocation_of(ctx).settings()
    if settings.ledger.url is None:
        raise ConfigError(f"{ctx.info_name} needs the database: name it with ledger.url")
    return settings


def _require_sound(file: Path, *, force: bool | None = None) -> None:
    """``force`` is None where there is no such choice."""
    report = check_ledger(file)
    if report.is_sound or (report.is_database and force):
        return
    for problem in report.problems:
        sys.stderr.write(f"WRONG     {problem}\n")
    if force is None:
        raise StoreError(f"{file} is not sound; nothing was changed")
    way_out = ", or restore it all the same with --force" if report.is_database else ""
    raise StoreError(f"{file} is not sound: take another copy{way_out}")


def import_reference(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="its SQLite file, miner_HOTKEY.db or the like")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count what would be taken over")] = False,
    as_provider: Annotated[
        str | None, typer.Option(metavar="KEY", help="the adapter that knows the jobs under way")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="leave out rows that are not understood")
    ] = False,
    json: Json = False,
) -> int:
    """Take over the database of the subnet's reference miner; both must be stopped.

    Finished jobs can be collected as before, also with cursors validators got from it. Jobs under way wait for their
    vendor's job, or are held for you. Nothing is submitted. A second run takes over only what is new.
    """
    settings = _settings(ctx)
    plan = _plan(settings, as_provider, skip_unreadable=skip_unreadable)
    with _lock(settings.ledger.file):
        result = take_over(file, settings.ledger, plan, dry_run=dry_run)
    output = output_for(as_json=json)
    if json:
        output.document(
            {
                "ledger": settings.ledger.file,
                "file": file,
                "dry_run": dry_run,
                "counts": {became.name.lower(): result.counts.get(became, 0) for became in Became},
                "unreadable": result.unreadable,
            }
        )
        return ExitCode.DONE
    for became, count in result.counts.items():
        output.line(f"{count:>8}  {became}")
    for line in result.unreadable[:_UNREADABLE_TOLD]:
        output.line(f"          {line}", Style.WARNING)
    output.line("nothing was changed: a dry run" if dry_run else f"taken over into {settings.ledger.file}")
    return ExitCode.DONE


def _plan(settings: Settings, as_provider: str | None, *, skip_unreadable: bool) -> ImportPlan:
    known = registry.keys()
    if as_provider is not None and as_provider not in known:
        raise ConfigError(f"--as-provider {as_provider}: no such adapter; there are {', '.join(known)}")
    return ImportPlan(
        now=utc_now(),
        retention=timedelta(days=settings.miner.retention_days),
        job_deadline=timedelta(seconds=settings.miner.job_deadline_seconds),
        held_deadline=timedelta(seconds=settings.miner.held_deadline_seconds),
        providers=known,
        as_provider=None if as_provider is None else ProviderKey(as_provider),
        skip_unreadable=skip_unreadable,
    )


@contextmanager
def _lock(ledger: Path) -> Generator[None]:
    prepare_folder(ledger)
    lock = LedgerLock(ledger.with_name(f"{ledger.name}.lock"))
    try:
        yield
    finally:
        lock.release()
