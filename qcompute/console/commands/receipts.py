"""``qcompute receipts …``: check signed receipts, and take them out of the ledger."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.completing import execution_ids
from qcompute.console.exit_codes import ExitCode
from qcompute.console.rows import Rows
from qcompute.errors import ConfigError, QComputeError
from qcompute.miner.commands import CommandRefused
from qcompute.receipts.__main__ import read_text, require_expected, summary
from qcompute.receipts.document import FalseReceipt, UnusableReceipt, verify_receipt


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the group."""
    ours = group(summary)
    command(ours, "verify", verify)
    command(ours, "export", export)
    app.add_typer(ours, name=name)


class ReceiptIsFalse(QComputeError):
    """A receipt is not what its miner signed, or not the expected one."""

    code = "false_receipt"


def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="the receipt, - for standard input")],
    *,
    counts: Annotated[
        str | None, typer.Option(metavar="FILE", help="the counts, which must be those it was signed for")
    ] = None,
    hotkey: Annotated[str | None, typer.Option(metavar="SS58", help="the miner that must have signed it")] = None,
    json: Json = False,
) -> int:
    """Check that a receipt is what its miner signed.

    Needs no ledger, no wallet and no network. Exit code 1: it is not, or not what was expected.
    """
    try:
        receipt = verify_receipt(read_text(file))
        require_expected(receipt, hotkey, counts)
    except FalseReceipt as error:
        raise ReceiptIsFalse(f"FALSE: {error}") from None
    except UnusableReceipt as error:
        raise ConfigError(f"cannot be checked: {error}") from None
    output = output_for(as_json=json)
    if json:
        output.document({"is_valid": True, "receipt": receipt.model_dump(mode="json")})
    else:
        output.facts(summary_facts(summary(receipt)))
    return ExitCode.DONE


def summary_facts(text: str) -> dict[str, str]:
    """The lines of a receipt's summary as names and values."""
    width = 15
    return {line[:width].strip(): line[width:].strip() for line in text.splitlines()}


def export(
    ctx: typer.Context,
    execution_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="one job; all if left out", autocompletion=execution_ids)
    ] = None,
    *,
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="a file ID.json for each, made if it is not there")
    ] = None,
    json: Json = False,
) -> int:
    """Take signed receipts out of the ledger, byte for byte as they were signed.

    Without --to each is one line on standard output; with --json all are one document. The daemon may be running.
    """
    output = output_for(as_json=json)
    with Rows(invocation_of(ctx).settings()).receipts(execution_id) as found:
        receipts = found if execution_id is None else iter(_require_one(found, execution_id))
        if folder is not None:
            names = _into(folder, receipts)
            if json:
                output.document({"count": len(names), "folder": folder, "receipts": sorted(names)})
            else:
                output.line(f"{len(names)} receipts are in {folder}")
        elif json:
            documents = [json_.loads(text) for _, text in receipts]
            output.document({"count": len(documents), "receipts": documents})
        else:
            sys.stdout.writelines(f"{text}\n" for _, text in receipts)
    return ExitCode.DONE


def _require_one(receipts: Iterator[tuple[str, str]], execution_id: str) -> list[tuple[str, str]]:
    found = list(receipts)
    if not found:
        raise CommandRefused(f"there is no receipt of {execution_id}: it is unknown here, or has not ended yet")
    return found


def _into(folder: Path, receipts: Iterator[tuple[str, str]]) -> list[str]:
    """Write a file for each; the ids of their jobs."""
    names: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in receipts:
            (folder / f"{name.replace('/', '_')}.json").write_text(text, encoding="utf-8")
            names.append(name)
    except OSError as error:
        raise ConfigError(f"--to {folder} cannot be written ({error.strerror})") from error
    return names
