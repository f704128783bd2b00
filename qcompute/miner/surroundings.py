"""What stands around the daemon: things above it that look at its parts, and that it starts and stops without knowing.

The operator's port, its metrics, traces and alerts are such (`qcompute.console.surroundings`). Whoever starts the
daemon hands them over; without any it runs as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from qcompute.miner.parts import Parts
from qcompute.miner.settings import Settings


class Surrounding(Protocol):
    """One of them. Its `run` is a side task of the daemon: should it end by itself, the daemon does too."""

    @property
    def name(self) -> str:
        """For the log."""
        ...

    @property
    def facts(self) -> Mapping[str, str | int]:
        """What the ready file says of it; asked after `start`."""
        ...

    async def start(self) -> None:
        """Get ready, before the daemon says that it serves.

        Raises:
            ConfigError: a setting cannot work.
        """
        ...

    async def run(self) -> None:
        """Work until cancelled, or until `stop`."""
        ...

    async def stop(self) -> None:
        """End. Called once after `start`; the daemon gives it a few seconds."""
        ...


Surround: TypeAlias = Callable[[Settings, Parts], Sequence[Surrounding]]
"""Makes them once the parts are there; raises `ConfigError`."""


def nothing(settings: Settings, parts: Parts) -> Sequence[Surrounding]:
    """No surroundings."""
    del settings, parts
    return ()
