"""``python -m qcompute.receipts verify FILE``: is this receipt what its miner signed? Needs no network.

Exit code 0: it is; a summary is printed. 1: it is not, or not what was expected; the reason is printed. 2: the input
cannot be used (no such file, not a receipt).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from qcompute.receipts.document import FalseReceipt, Receipt, UnusableReceipt, counts_sha256, verify_receipt

TRUE: Final = 0
FALSE: Final = 1
UNUSABLE: Final = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m qcompute.receipts", description="Check signed receipts offline.")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check that a receipt is what its miner signed")
    verify.add_argument("file", help="the receipt, - for standard input")
    verify.add_argument("--counts", help="a file with the counts: must be those the receipt was signed for")
    verify.add_argument("--hotkey", help="the miner's ss58 address that is expected")
    wish = parser.parse_args(arguments)
    try:
        receipt = verify_receipt(read_text(wish.file))
        require_expected(receipt, wish.hotkey, wish.counts)
    except FalseReceipt as error:
        sys.stderr.write(f"FALSE: {error}\n")
        return FALSE
    except UnusableReceipt as error:
        sys.stderr.write(f"cannot be checked: {error}\n")
        return UNUSABLE
    sys.stdout.write(summary(receipt))
    return TRUE


def summary(receipt: Receipt) -> str:
    """What a verified receipt says, for people."""
    cost = receipt.cost
    lines = {
        "valid": f"signed by {receipt.miner_hotkey}",
        "execution": receipt.execution_id,
        "verdict": receipt.verdict + (f": {receipt.message}" if receipt.message else ""),
        "device": f"{receipt.provider}/{receipt.device_id} (job {receipt.provider_job_id})",
        "shots": f"{receipt.shots_returned} of {receipt.shots_requested}",
        "counts sha256": receipt.counts_sha256,
        "circuit sha256": receipt.circuit_sha256,
        "cost": "unknown" if cost.amount is None else f"{cost.amount} {cost.currency} ({cost.kind})",
        "settled": receipt.timestamps.get("settled"),
        "validator": receipt.validator_hotkey,
    }
    return "".join(f"{name:<15} {value}\n" for name, value in lines.items())


def require_expected(receipt: Receipt, hotkey: str | None, counts_file: str | None) -> None:
    """Check who signed it, and for which counts; None expects nothing.

    Raises:
        FalseReceipt: it is another's, or for other counts.
        UnusableReceipt: the counts cannot be read.
    """
    if hotkey is not None and receipt.miner_hotkey != hotkey:
        raise FalseReceipt(f"it is signed by {receipt.miner_hotkey}, not by {hotkey}")
    if counts_file is None:
        return
    try:
        counts = json.loads(read_text(counts_file))
    except ValueError:
        raise UnusableReceipt(f"{counts_file} is not JSON") from None
    if counts_sha256(counts) != receipt.counts_sha256:
        raise FalseReceipt("it was signed for other counts")


def read_text(name: str) -> str:
    """A file's text, or that of standard input for ``-``.

    Raises:
        UnusableReceipt: it cannot be read.
    """
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UnusableReceipt(f"{name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UnusableReceipt(f"{name} is not UTF-8 text") from None


if __name__ == "__main__":
    sys.exit(main())
