"""How far something has come that a command waits for: a line on a terminal, nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from qcompute.console.output import Output


class Show(Protocol):
    """Is told how far it has come, and with ``words`` what is happening now."""

    def __call__(self, done: int, words: str | None = None) -> None:
        """Show it."""
        ...


@contextmanager
def progress(output: Output, words: str, total: int, *, is_counted: bool = False) -> Generator[Show]:
    """Show a bar with ``words`` beside it until the end of the block; ``is_counted``: also "3/8"."""
    if output.as_json or not output.console.is_terminal:
        yield _nothing
        return
    from rich.progress import (  # noqa: PLC0415 - takes a while
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    counted: list[ProgressColumn] = [MofNCompleteColumn()] if is_counted else []
    columns = (TextColumn("{task.description}"), BarColumn(), *counted, TimeElapsedColumn())
    with Progress(*columns, console=output.console) as bar:
        task = bar.add_task(words, total=total)
        update: Callable[..., None] = bar.update
        yield lambda done, words=None: update(task, completed=done, description=words)


def _nothing(done: int, words: str | None = None) -> None:
    del done, words
