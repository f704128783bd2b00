"""Where credentials are kept and looked for: the keyring where one works, else the encrypted file, else variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from qcompute.connections.credentials import (
    Place,
    checked_value,
    environment_value,
    look_in,
    variable_of,
)
from qcompute.connections.os_keyring import OsKeyring
from qcompute.connections.settings import ConnectionSettings, StoreKind
from qcompute.connections.vault import Ask, KeyKind, Vault
from qcompute.errors import ConfigError

FILE: Final = "credentials.json"
PASSPHRASE: Final = "credential_store"  # noqa: S105 - a name
"""The secret that opens the encrypted file, from the environment."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a credential is, in words; ``place`` None: nowhere."""

    name: str
    place: str | None


@dataclass(frozen=True, slots=True)
class Resealing:
    """The encrypted file, opened, before it is given another key."""

    now: Vault
    key_file: Path | None

    def seal(self, passphrase: str | None) -> None:
        """Seal it with the key file, or where there is none with this passphrase.

        Raises:
            ConfigError: the passphrase will not do, or something cannot be written; the file is as it was.
        """
        if passphrase is not None:
            checked_passphrase(passphrase)
        self.now.reseal(Vault(self.now.path, self.key_file, lambda: passphrase or ""))


def checked_passphrase(given: str) -> str:
    """``given`` when a file can be sealed with it. Raises `ConfigError` when not."""
    if not given:
        raise ConfigError("an empty passphrase protects nothing")
    if given != given.strip():
        raise ConfigError("a passphrase has no space around it: a variable or a file would give it without")
    return given


class CredentialStore:
    """The places of one miner. ``ask`` is asked for the passphrase where the environment does not give it."""

    def __init__(self, settings: ConnectionSettings, folder: Path, *, ask: Ask | None = None) -> None:
        self._kind = settings.store
        self._ask = ask
        self.keyring = OsKeyring(folder)
        self.vault = Vault((settings.file or folder / FILE).expanduser(), settings.key_file, self._passphrase)

    def places(self) -> list[OsKeyring | Vault]:
        """Where credentials are looked for before the environment, in order."""
        match self._kind:
            case StoreKind.AUTO:
                return [self.keyring, self.vault]
            case StoreKind.KEYRING:
                return [self.keyring]
            case StoreKind.FILE:
                return [self.vault]
            case StoreKind.ENVIRONMENT:
                return []
            case _:
                assert_never(self._kind)

    def install(self) -> None:
        """Let every secret of this process be looked for in these places first."""
        places: list[Place] = list(self.places())
        look_in(places)

    def chain(self) -> list[str]:
        """Where credentials are looked for, in order, in words, each with why it cannot be used."""
        told: list[str] = []
        for place in self.places():
            if isinstance(place, OsKeyring):
                trouble = place.why_not()
                told.append(place.label if trouble is None else f"{place.label} (not used: {trouble})")
            else:
                told.append(place.label if place.path.exists() else f"{place.label} (not there yet)")
        return [*told, f"the environment ({variable_of('name')})"]

    def value(self, name: str) -> str | None:
        """What is kept under this name; None when nothing is. For handing on, never for showing."""
        for place in self.places():
            if (value := place.get(name)) is not None:
                return value
        return environment_value(name)

    def where(self, name: str) -> Kept:
        """The place that is asked for this name; no value is shown or returned.

        Raises:
            ConfigError: a place cannot be read.
        """
        for place in self.places():
            if name in place.names() if isinstance(place, Vault) else place.get(name) is not None:
                return Kept(name, place.label)
        return Kept(name, f"the environment ({variable_of(name)})" if environment_value(name) is not None else None)

    def put(self, name: str, value: str) -> str:
        """Keep a value, and say where, in words. What other places had of that name is removed once it is kept.

        Raises:
            ConfigError: there is no place to keep it, or that fails; nothing was changed.
        """
        target = self._target()
        target.put(name, checked_value(value))
        for place in self.places():
            if place is not target:
                place.remove(name)
        return target.label

    def remove(self, name: str) -> bool:
        """Forget a value in every place; False when there was none. Variables are left as they are."""
        return [place.remove(name) for place in self.places()].count(True) > 0

    def resealing(self, key_file: Path | None) -> Resealing:
        """Give the encrypted file another key. It opens by now: whoever does not know how it does is refused first.

        ``key_file`` is made when it is not there; None: a passphrase is to open it.

        Raises:
            ConfigError: there is no such file, it does not open, or ``key_file`` is the one that opens it already.
        """
        kind = self.vault.kind()
        match kind:
            case KeyKind.PASSPHRASE:  # the setting may name the key file to come already
                now = Vault(self.vault.path, None, self._passphrase)
            case KeyKind.KEY_FILE:
                now = self.vault
            case _:
                assert_never(kind)
        now.prove()
        if key_file is not None and now.key_file is not None and _is_same(key_file, now.key_file):
            raise ConfigError(f"{key_file} opens {now.path} already: name another file, which is made")
        return Resealing(now, key_file)

    def _target(self) -> OsKeyring | Vault:
        match self._kind:
            case StoreKind.FILE:
                return self.vault
            case StoreKind.ENVIRONMENT:
                raise ConfigError(
                    "connections.store is environment, so nothing is stored: set the variable, or another store"
                )
            case StoreKind.AUTO | StoreKind.KEYRING:
                trouble = self.keyring.why_not()
            case _:
                assert_never(self._kind)
        if trouble is None:
            return self.keyring
        if self._kind is StoreKind.KEYRING:
            raise ConfigError(f"{trouble}; set connections.store to file")
        return self.vault

    def _passphrase(self) -> str:
        given = environment_value(PASSPHRASE)
        if given is not None:
            return given
        if self._ask is None:
            raise ConfigError(
                f"the encrypted file {self.vault.path} needs its passphrase: set {variable_of(PASSPHRASE)}_FILE to a "
                "file that holds it (mode 0600), or connections.key_file to a key file"
            )
        return self._ask()


def _is_same(one: Path, other: Path) -> bool:
    return one.expanduser().resolve() == other.expanduser().resolve()
