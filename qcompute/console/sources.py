"""Where facts come from: the running daemon by its socket first, else its ledger or its settings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from qcompute.console.exit_codes import NoDaemon
from qcompute.miner.commands import ANSWER_SECONDS, CommandRefused, socket_file, tell_daemon
from qcompute.miner.settings import Settings


def told(settings: Settings, words: BaseModel, *, within_seconds: float = ANSWER_SECONDS) -> dict[str, Any] | None:
    """What the running daemon answers; None when none runs.

    Raises:
        CommandRefused: it will not do that; says why.
        ConfigError: it does not answer, or this user may not speak to it.
    """
    answer = tell_daemon(socket_file(settings.ledger.file), words, within_seconds=within_seconds)
    if answer is not None and not answer.get("ok"):
        raise CommandRefused(str(answer.get("message")))
    return answer


def must_be_told(settings: Settings, words: BaseModel, *, within_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """As `told`, for what only a daemon can do.

    Raises:
        NoDaemon: none runs.
    """
    answer = told(settings, words, within_seconds=within_seconds)
    if answer is None:
        file = socket_file(settings.ledger.file)
        raise NoDaemon(
            f"no daemon answers at {file}: start it, or say which one with --neuron.name, --ledger.path or --config"
        )
    return answer
