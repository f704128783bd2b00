"""The operator's token: the secret that ``operator.token`` names, or where there is none one in a file.

Deciding about jobs can cost money, and all users of the machine reach a loopback port, so there always is a token
(ADR 0014 says the same of the unix socket).
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from qcompute.connections.credentials import Secret, named
from qcompute.errors import ConfigError
from qcompute.files import create_private
from qcompute.miner.watching import OperatorSettings

SHORTEST_TOKEN: Final = 16
TOKEN_SUFFIX: Final = ".operator-token"  # noqa: S105 - of the file's name


def operator_token(settings: OperatorSettings, ledger: Path) -> Secret:
    """The token of the daemon of a ledger; the one in the file is made at the first call.

    Raises:
        ConfigError: there is no such secret, it can be guessed, or the file cannot be used.
    """
    if settings.token is None:
        return Secret("operator", kept_token(token_file(ledger)))
    token = named(settings.token)
    if len(token.reveal()) < SHORTEST_TOKEN:
        raise ConfigError(
            f"the secret {settings.token!r} (operator.token) has fewer than {SHORTEST_TOKEN} characters: "
            "make one with `openssl rand -hex 32`"
        )
    return token


def token_file(ledger: Path) -> Path:
    """Where the token lies when ``operator.token`` names none."""
    return ledger.with_name(f"{ledger.name}{TOKEN_SUFFIX}")


def kept_token(file: Path) -> str:
    """The token kept in ``file``, made at the first call, for its owner alone; a killed process leaves no part of one.

    Raises:
        ConfigError: it cannot be read or written, or others may read it.
    """
    try:
        with suppress(FileExistsError):
            if not file.exists():
                create_private(file, f"{secrets.token_urlsafe(32)}\n".encode())
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"others may read the operator's token {file}: chmod 600 it, or remove it for a new one")
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the operator's token {file} cannot be used ({type(error).__name__})") from error
    if not token:
        raise ConfigError(f"the operator's token {file} is empty: remove it, and a new one is made")
    return token
