"""Credentials in the operating system's keyring: Secret Service, KWallet, macOS' Keychain, Windows' Credential Locker.

``keyring`` finds the backend. Servers without a desktop have none, and the library then gives one that fails, or one
that forgets: whether it works is only known when a value was stored and read again.
"""

# the library wraps set_password in a function without types
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import secrets
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qcompute.errors import ConfigError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_log = logging.getLogger(__name__)

_NONE: Final = frozenset({"keyring.backends.fail", "keyring.backends.null"})
_PROBE: Final = ":probe:"
"""No credential's name."""


class OsKeyring:
    """The keyring of whoever runs this. The credentials of each miner's ``folder`` are apart from all others'."""

    def __init__(self, folder: Path) -> None:
        self.service = f"qcompute {folder}"

    @property
    def label(self) -> str:
        """See `qcompute.connections.credentials.Place`."""
        return "the keyring"

    @cached_property
    def _backend(self) -> KeyringBackend | None:
        """The backend, or None where there is none; loaded at the first question: that takes a tenth of a second."""
        import keyring  # noqa: PLC0415 - see above

        try:
            backend = keyring.get_keyring()
            is_usable = type(backend).__module__ not in _NONE and backend.priority > 0
        except Exception as error:  # noqa: BLE001 - a plug-in of the system may raise anything
            _log.debug("no keyring: %s", type(error).__name__, extra={"action": "keyring"})
            return None
        return backend if is_usable else None

    def why_not(self) -> str | None:
        """Why no credential can be kept here; None when one can be: a value was stored, read and removed again."""
        backend = self._backend
        if backend is None:
            return "this machine has no keyring that this user could use"
        value = secrets.token_hex(8)
        try:
            backend.set_password(self.service, _PROBE, value)
            told = backend.get_password(self.service, _PROBE)
            backend.delete_password(self.service, _PROBE)
        except Exception as error:  # noqa: BLE001 - a plug-in of the system may raise anything
            return f"the keyring {type(backend).__name__} does not work ({type(error).__name__})"
        return None if told == value else f"the keyring {type(backend).__name__} does not keep what it is given"

    def get(self, name: str) -> str | None:
        """The value; None when it is not there, or there is no keyring.

        Raises:
            ConfigError: there is a keyring and it fails, locked for example.
        """
        backend = self._backend
        if backend is None:
            return None
        try:
            return backend.get_password(self.service, name)
        except Exception as error:  # noqa: BLE001 - a plug-in of the system may raise anything
            raise self._failed(error) from None

    def put(self, name: str, value: str) -> None:
        """Keep a value, in the place of one of that name. Raises `ConfigError` when it is not kept."""
        backend = self._backend
        if backend is None:
            raise ConfigError("this machine has no keyring; set connections.store to file")
        try:
            backend.set_password(self.service, name, value)
            kept = backend.get_password(self.service, name) == value
        except Exception as error:  # noqa: BLE001 - a plug-in of the system may raise anything
            raise self._failed(error) from None
        if not kept:
            raise ConfigError("the keyring does not keep what it is given; set connections.store to file")

    def remove(self, name: str) -> bool:
        """Forget a value; False when there was none. Raises `ConfigError` when the keyring fails."""
        if self._backend is None or self.get(name) is None:
            return False
        try:
            self._backend.delete_password(self.service, name)
        except Exception as error:  # noqa: BLE001 - a plug-in of the system may raise anything
            raise self._failed(error) from None
        return True

    @staticmethod
    def _failed(error: Exception) -> ConfigError:
        return ConfigError(
            f"the keyring does not answer ({type(error).__name__}): unlock it, or set connections.store to file"
        )
