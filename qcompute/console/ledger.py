"""``qcompute ledger …``: back up, check, restore, take over."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from qcompute.console.arguments import EXIT_FAILED, EXIT_OK
from qcompute.errors import ConfigError, StoreError
from qcompute.ledger.backup import make_backup, sha256_of
from qcompute.ledger.check import CheckReport, check_ledger
from qcompute.ledger.database import prepare_folder
from qcompute.ledger.import_reference import ImportPlan, import_reference
from qcompute.ledger.lock import LedgerLock
from qcompute.ledger.restore import restore
from qcompute.miner.providers import registry
from qcompute.miner.router import token_of
from qcompute.miner.settings import Settings
from qcompute.units import ProviderKey, utc_now

_MEBI: Final = 1 << 20


def run(wish: Namespace, settings: Settings) -> int:
    """Do one command of the group and return the exit code.

    Raises:
        ConfigError: a file or an argument will not do.
        StoreError: a database failed.
    """
    if settings.ledger.url is not None:
        raise ConfigError(
            f"qcompute ledger {wish.command} works on SQLite files only, and ledger.url is set: back Postgres up with "
            "pg_dump (docs/how-to/postgres.md), or name a file with --ledger.url= --ledger.path FILE"
        )
    return _COMMANDS[wish.command](wish, settings)


def _backup(wish: Namespace, settings: Settings) -> int:
    made = make_backup(settings.ledger.file, wish.file, force=wish.force)
    rows = ", ".join(f"{count} {name}" for name, count in made.rows.items() if count)
    key = made.key or "none: the ledger has no key"
    sys.stdout.write(
        f"copied  {settings.ledger.file}\nto      {made.file}\nkey     {key}\nrows    {rows or 'none'}\n"
        f"size    {made.size_bytes / _MEBI:.2f} MiB\nschema  {made.revision}\nsha256  {made.sha256}\n"
        f"time    {made.seconds:.2f} s, checked\n"
    )
    return EXIT_OK


def _check(wish: Namespace, settings: Settings) -> int:
    report = check_ledger(wish.file or settings.ledger.file, hotkey=wish.hotkey)
    sys.stdout.write(_told(report))
    if wish.file is not None:
        sys.stdout.write(f"sha256    {sha256_of(wish.file)}\n")
    return EXIT_OK if report.is_sound else EXIT_FAILED


def _told(report: CheckReport) -> str:
    lines = [f"ledger    {report.file}"]
    if report.is_database:
        lines += [
            f"schema    {report.revision}",
            f"jobs      {report.rows.get('jobs', 0)}"
            + "".join(f", {count} {state}" for state, count in report.states.items()),
            *(f"receipts  {count} signed by {hotkey}" for hotkey, count in report.signers.items()),
        ]
    lines += [f"WRONG     {problem}" for problem in report.problems]
    lines.append("result    " + ("sound" if report.is_sound else "something is wrong"))
    return "\n".join(lines) + "\n"


def _restore(wish: Namespace, settings: Settings) -> int:
    ledger = settings.ledger.file
    with _lock(ledger):
        report = check_ledger(wish.file)
        if not report.is_sound and not (report.is_database and wish.force):
            sys.stderr.write(_told(report))
            way_out = ", or restore it all the same with --force" if report.is_database else ""
            raise StoreError(f"{wish.file} is not sound: take another copy{way_out}")
        restored = restore(
            wish.file,
            ledger,
            token_of=token_of,
            now=utc_now(),
            ahead_seconds=settings.axon.forward_skew_seconds,
            forget_urls=settings.ledger.forget_unreadable_urls,
        )
    latest = restored.latest_received_at
    last = "the copy has no jobs" if latest is None else f"the last job in the copy came {latest:%Y-%m-%d %H:%M:%S} UTC"
    sys.stdout.write(
        f"restored  {ledger}\nfrom      {wish.file}\n"
        f"replaced  {restored.aside or 'nothing: there was no ledger'}\n"
        f"to find   {restored.to_look_for} jobs may have been submitted since; the daemon looks before it submits\n"
        f"lost      {last}; later ones are not in it\n"
    )
    return EXIT_OK


def _import_reference(wish: Namespace, settings: Settings) -> int:
    known = registry.keys()
    if wish.as_provider is not None and wish.as_provider not in known:
        raise ConfigError(f"--as-provider {wish.as_provider}: no such adapter; there are {', '.join(known)}")
    plan = ImportPlan(
        now=utc_now(),
        retention=timedelta(days=settings.miner.retention_days),
        job_deadline=timedelta(seconds=settings.miner.job_deadline_seconds),
        held_deadline=timedelta(seconds=settings.miner.held_deadline_seconds),
        providers=known,
        as_provider=None if wish.as_provider is None else ProviderKey(wish.as_provider),
        skip_unreadable=wish.skip_unreadable,
    )
    with _lock(settings.ledger.file):
        result = import_reference(wish.file, settings.ledger, plan, dry_run=wish.dry_run)
    for became, count in result.counts.items():
        sys.stdout.write(f"{count:>8}  {became}\n")
    for line in result.unreadable[:20]:
        sys.stdout.write(f"          {line}\n")
    sys.stdout.write(
        "nothing was changed: a dry run\n" if wish.dry_run else f"taken over into {settings.ledger.file}\n"
    )
    return EXIT_OK


@contextmanager
def _lock(ledger: Path) -> Generator[None]:
    prepare_folder(ledger)
    lock = LedgerLock(ledger.with_name(f"{ledger.name}.lock"))
    try:
        yield
    finally:
        lock.release()


_COMMANDS: Final[Mapping[str, Callable[[Namespace, Settings], int]]] = {
    "backup": _backup,
    "check": _check,
    "restore": _restore,
    "import-reference": _import_reference,
}
