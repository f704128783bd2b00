"""``qcompute receipts …``: check signed receipts, and take them out of the ledger."""

from __future__ import annotations

import json as json_
import sys
from pathlib import Path
from typing import Annotated

import typer

from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.completing import execution_ids
from qcompute.console.exit_codes import ExitCode
from qcompute.console.rows import Rows
from qcompute.errors import ConfigError, QComputeError
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
    rows = Rows(invocation_of(ctx).settings(), "receipts export")
    output = output_for(as_json=json)
    receipts = rows.receipts(execution_id)
    if execution_id is not None and not receipts:
        raise ConfigError(f"there is no receipt of {execution_id}: it is unknown here, or has not ended yet")
    if folder is not None:
        _into(folder, receipts)
    if json:
        there = {} if folder is None else {"folder": folder}
        found = [json_.loads(text) for text in receipts.values()] if folder is None else sorted(receipts)
        output.document({"count": len(receipts), **there, "receipts": found})
    elif folder is not None:
        output.line(f"{len(receipts)} receipts are in {folder}")
    else:
        sys.stdout.writelines(f"{text}\n" for text in receipts.values())
    return ExitCode.DONE


def _into(folder: Path, receipts: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in receipts.items():
            (folder / f"{name.replace('/', '_')}.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--to {folder} cannot be written ({error.strerror})") from error
