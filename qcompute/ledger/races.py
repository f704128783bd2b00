"""Two processes that decided on the same row at the same time."""

from __future__ import annotations

from qcompute.errors import StoreError


class Raced(StoreError):
    """Another process changed what this transaction had read; nothing was written, and it can be done again."""
