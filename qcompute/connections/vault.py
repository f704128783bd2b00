"""The encrypted file: credentials by name, for machines without a keyring.

JSON, of mode 0600. Names are in the clear, so that one can see what is there without the key; each value is a Fernet
token (AES-128-CBC with HMAC-SHA256) over its name and itself, so that values cannot be exchanged for one another. The
key is that of a key file, or made from a passphrase by scrypt with what stands in the file. Every change takes a lock,
reads the file again and replaces it whole, so that of two processes that write at once neither loses anything, and a
process that is killed leaves the file as it was.
"""

from __future__ import annotations

import base64
import json
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.errors import ConfigError
from qcompute.files import locked, write_private

_CHECK: Final = ":check:"
"""The name of the value that tells a wrong key, also while the file holds no credential. No credential's name."""

REKEYED: Final = (
    "after `qcompute connections rekey` put the new key or passphrase into the file from which the daemon has it, "
    "or restart the daemon with the new one"
)
"""What a daemon needs to read credentials again. It looks at its key file, or at the file of its passphrase, anew."""

_KEY_BYTES: Final = 32
_MAX_BYTES: Final = 8 << 20

Ask = Callable[[], str]
"""Gives the passphrase. Raises `ConfigError` when nobody can be asked."""


class KeyKind(StrEnum):
    """What opens an encrypted file."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a kind
    KEY_FILE = "key_file"


class _ByPassphrase(BaseModel):
    """scrypt's numbers as OWASP has them for 32 MiB: about a third of a second. A file cannot ask for much more."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["scrypt"] = "scrypt"
    salt: str = Field(default_factory=lambda: secrets.token_hex(16), pattern="^[0-9a-f]{32,128}$")
    n: int = Field(default=1 << 15, ge=1 << 14, le=1 << 20)
    r: int = Field(default=8, ge=8, le=16)
    p: int = Field(default=3, ge=1, le=16)


class _ByKeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["key_file"] = "key_file"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    key: Annotated[_ByPassphrase | _ByKeyFile, Field(discriminator="kind")]
    values: dict[str, str] = Field(default_factory=dict[str, str])


@dataclass(slots=True)
class Vault:
    """One encrypted file. Not thread-safe; several processes may have it open.

    ``key_file`` is made at the first write; without one ``ask`` gives the passphrase, once, when it is needed. Both are
    asked for again when the file was sealed anew by another process.
    """

    path: Path
    key_file: Path | None
    ask: Ask = field(repr=False)
    _opened: dict[str, Fernet] = field(default_factory=dict[str, Fernet], repr=False)

    @property
    def label(self) -> str:
        """See `qcompute.connections.credentials.Place`."""
        return f"the encrypted file {self.path}"

    def names(self) -> list[str]:
        """The names of what is in it, sorted; needs no key.

        Raises:
            ConfigError: the file cannot be read, or others may read it.
        """
        document = self._read()
        return [] if document is None else sorted(name for name in document.values if name != _CHECK)

    def get(self, name: str) -> str | None:
        """The value; None when there is none, which needs no key.

        Raises:
            ConfigError: the file cannot be read or opened; the message says what to set.
        """
        document = self._read()
        if document is None or name not in document.values:
            return None
        return self._value(self._fernet(document), document, name)

    def put(self, name: str, value: str) -> None:
        """Keep a value, in the place of one of that name.

        Raises:
            ConfigError: the file cannot be opened or written; it is as it was.
        """
        with self._changing():
            document = self._read() or self._new()
            sealed = _sealed(self._fernet(document), name, value)
            self._write(document.model_copy(update={"values": {**document.values, name: sealed}}))

    def remove(self, name: str) -> bool:
        """Forget a value; False when there was none. Needs no key.

        Raises:
            ConfigError: the file cannot be read or written.
        """
        with self._changing():
            document = self._read()
            if document is None or name not in document.values:
                return False
            left = {one: value for one, value in document.values.items() if one != name}
            self._write(document.model_copy(update={"values": left}))
            return True

    def kind(self) -> KeyKind:
        """What opens the file as it is now, whatever the settings say; needs no key.

        Raises:
            ConfigError: there is no file yet, it cannot be read, or others may read it.
        """
        return KeyKind.PASSPHRASE if isinstance(self._there().key, _ByPassphrase) else KeyKind.KEY_FILE

    def prove(self) -> None:
        """See that passphrase or key open the file; a second call asks nobody again.

        Raises:
            ConfigError: there is no file yet, or they do not.
        """
        self._fernet(self._there())

    def reseal(self, after: Vault) -> None:
        """Seal every value anew, for the key file or passphrase of ``after``, which stands for the same file.

        Until the new file is whole and in place the old one is there, and opens as before; there is no third state.

        Raises:
            ConfigError: it does not open, ``after`` has no key, or it cannot be written; it is as it was.
        """
        with self._changing():
            document = self._there()
            old = self._fernet(document)
            values = {name: self._value(old, document, name) for name in document.values}
            fresh = after._new()
            new = after._fernet(fresh)
            sealed = {name: _sealed(new, name, value) for name, value in values.items()}
            self._write(fresh.model_copy(update={"values": sealed}))

    def _there(self) -> _Document:
        if (document := self._read()) is None:
            raise ConfigError(f"{self.label} is not there yet: it is made when the first credential is kept in it")
        return document

    @contextmanager
    def _changing(self) -> Generator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_name(f"{self.path.name}.lock")):
                for draft in self.path.parent.glob(f"{self.path.name}.*.draft"):  # of a process that was killed
                    draft.unlink(missing_ok=True)
                yield
        except OSError as error:
            raise self._unwritable(error) from None

    def _new(self) -> _Document:
        document = _Document(key=_ByPassphrase() if self.key_file is None else _ByKeyFile())
        if self.key_file is not None and not self.key_file.expanduser().exists():
            try:
                self.key_file.expanduser().parent.mkdir(parents=True, exist_ok=True)
                write_private(self.key_file.expanduser(), Fernet.generate_key() + b"\n")
            except OSError as error:
                raise ConfigError(f"connections.key_file: {self.key_file} cannot be made ({error.strerror})") from None
        fernet = self._opened[document.key.model_dump_json()] = self._made(document)
        return document.model_copy(update={"values": {_CHECK: _sealed(fernet, _CHECK, _CHECK)}})

    def _fernet(self, document: _Document) -> Fernet:
        """What opens the file.

        Raises:
            ConfigError: the key or passphrase is another file's, or cannot be had.
        """
        known = document.key.model_dump_json()
        if (fernet := self._opened.get(known)) is not None:
            with suppress(ConfigError):  # sealed anew since we opened it: the new key may lie in the old one's place
                self._value(fernet, document, _CHECK)
                return fernet
            del self._opened[known]
        fernet = self._made(document)
        self._value(fernet, document, _CHECK)
        self._opened[known] = fernet
        return fernet

    def _made(self, document: _Document) -> Fernet:
        match document.key:
            case _ByPassphrase() as by:
                if self.key_file is not None:
                    raise ConfigError(
                        f"{self.path} opens with a passphrase: unset connections.key_file, and restart the daemon"
                    )
                scrypt = Scrypt(salt=bytes.fromhex(by.salt), length=_KEY_BYTES, n=by.n, r=by.r, p=by.p)
                return Fernet(base64.urlsafe_b64encode(scrypt.derive(self.ask().encode())))
            case _ByKeyFile():
                if self.key_file is None:
                    raise ConfigError(
                        f"{self.path} opens with a key file: set connections.key_file to it, and restart the daemon"
                    )
                return _key_in(self.key_file.expanduser())

    def _value(self, fernet: Fernet, document: _Document, name: str) -> str:
        try:
            told, value = json.loads(fernet.decrypt(document.values[name].encode()))
        except KeyError:
            raise ConfigError(f"{self.path} is damaged: bring it back from a backup") from None
        except InvalidToken:
            what = "passphrase" if isinstance(document.key, _ByPassphrase) else f"key in {self.key_file}"
            if name == _CHECK:
                raise ConfigError(f"the {what} does not open {self.path}; nothing was changed; {REKEYED}") from None
            raise ConfigError(
                f"the {what} opens, but not its entry {name!r}, which was changed: {self.path}; nothing was changed"
            ) from None
        if told != name:
            raise ConfigError(f"{self.path} was changed by hand: the entry {name!r} is another's")
        return str(value)

    def _read(self) -> _Document | None:
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            content = self.path.read_bytes()[:_MAX_BYTES]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.label} cannot be read ({error.strerror})") from None
        if mode & 0o077:
            raise ConfigError(f"{self.path} can be read by others (mode {mode:o}): chmod 600 {self.path}")
        try:
            return _Document.model_validate_json(content)
        except ValidationError:
            raise ConfigError(
                f"{self.path} is no file of credentials, or damaged: bring it back from a backup"
            ) from None

    def _write(self, document: _Document) -> None:
        try:
            write_private(self.path, document.model_dump_json(indent=1).encode() + b"\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self.label} cannot be written ({error.strerror}); see connections.file")


def _sealed(fernet: Fernet, name: str, value: str) -> str:
    return fernet.encrypt(json.dumps([name, value]).encode()).decode()


def _key_in(file: Path) -> Fernet:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        key = file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"connections.key_file: {file} cannot be read ({error.strerror})") from None
    if mode & 0o077:
        raise ConfigError(f"connections.key_file: {file} can be read by others (mode {mode:o}): chmod 600 {file}")
    try:
        return Fernet(key)
    except ValueError:
        raise ConfigError(f"connections.key_file: {file} holds no key") from None
