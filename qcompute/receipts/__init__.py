"""Signed receipts: one per ended job, verifiable by anyone, offline."""

from qcompute.receipts.document import (
    FalseReceipt,
    Receipt,
    ReceiptPart,
    UnusableReceipt,
    build_receipt,
    canonical,
    counts_sha256,
    verify_receipt,
)

__all__ = [
    "FalseReceipt",
    "Receipt",
    "ReceiptPart",
    "UnusableReceipt",
    "build_receipt",
    "canonical",
    "counts_sha256",
    "verify_receipt",
]
