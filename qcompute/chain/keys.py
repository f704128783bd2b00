"""Hotkeys: loading, signing, verifying. sr25519, through bittensor's own key primitives.

Secrets stay inside bittensor's keypair object; no ``repr`` and no error here shows one.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Its native part alone: what is needed to sign and to verify comes from there, and all of bittensor takes a second of
# CPU and 40 MB more, which a daemon without the chain, and every command, need not spend.
from bittensor_core import (
    CRYPTO_SR25519,
    KeyfileError,
    Keypair,
    WrongPasswordError,
    deserialize_keypair_from_keyfile_data,
    keyfile_data_is_encrypted,
    verify,
)

from qcompute.chain.contract import Signer
from qcompute.chain.settings import WalletSettings
from qcompute.errors import ConfigError
from qcompute.units import Hotkey


@contextmanager
def hidden_arguments() -> Generator[None, None, None]:
    """Hide our command line while bittensor is imported: some versions answer ``--help`` at import."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments


SIGNATURE_BYTES: Final = 64


class HotkeySigner(Signer):
    """Signs with one hotkey."""

    __slots__ = ("_hotkey", "_keypair")

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair
        self._hotkey = Hotkey(keypair.ss58_address)

    @property
    def hotkey(self) -> Hotkey:
        """The ss58 address."""
        return self._hotkey

    def sign(self, message: bytes) -> bytes:
        """A sr25519 signature (64 bytes, randomised: no two are alike) over ``message``."""
        return bytes(self._keypair.sign(message))

    def __repr__(self) -> str:
        return f"HotkeySigner({self._hotkey})"


def load_signer(settings: WalletSettings) -> HotkeySigner:
    """The hotkey of a wallet on disk.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is encrypted; the text names the flag to set.
    """
    file = settings.path.expanduser() / settings.name / "hotkeys" / settings.hotkey
    where = f"hotkey {settings.hotkey!r} of wallet {settings.name!r} in {settings.path}"
    flags = "set --wallet.name, --wallet.hotkey and --wallet.path to a wallet made with `btcli wallet create`"
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"there is no {where}; {flags}, or try the daemon without one: `make demo`") from None
    except PermissionError:
        raise ConfigError(f"{where} cannot be read by this user; {flags}") from None
    except OSError as error:
        raise ConfigError(f"{where} is not a usable key file ({type(error).__name__}); {flags}") from None
    if keyfile_data_is_encrypted(data):
        raise ConfigError(f"{where} is encrypted; a daemon cannot ask for a password: use a hotkey without one")
    try:
        signer = HotkeySigner(deserialize_keypair_from_keyfile_data(data))
        signer.sign(b"")  # a file may hold the address alone
    except (KeyfileError, WrongPasswordError, ValueError) as error:
        raise ConfigError(f"{where} is not a usable key file ({type(error).__name__}); {flags}") from None
    return signer


def signer_from_uri(uri: str) -> HotkeySigner:
    """A signer from a derivation path such as ``//Alice``. Such keys are public: for tests and local runs only."""
    return HotkeySigner(Keypair.create_from_uri(uri))


def create_wallet(name: str, hotkey: str, path: Path) -> HotkeySigner:
    """Make a new wallet without passwords and without printing anything; for local runs.

    Raises:
        ConfigError: the wallet or the hotkey exists already.
    """
    with hidden_arguments():
        from bittensor.wallet import Wallet  # noqa: PLC0415 - a second of CPU, for what is done once

    wallet = Wallet(name, hotkey, str(path))
    if wallet.hotkey_file.exists_on_device() or wallet.coldkey_file.exists_on_device():
        raise ConfigError(f"wallet {name!r} exists already in {path}")
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(use_password=False, suppress=True)
    return HotkeySigner(wallet.hotkey)


def verify_signature(message: bytes, signature: bytes, hotkey: Hotkey) -> bool:
    """Whether ``signature`` is the hotkey's over ``message``, or over ``<Bytes>message</Bytes>`` as wallets wrap it.

    False for anything that cannot be decoded: wrong length, not an ss58 address, not a point on the curve.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        return verify(message, signature, hotkey, CRYPTO_SR25519) or verify(
            b"<Bytes>" + message + b"</Bytes>", signature, hotkey, CRYPTO_SR25519
        )
    except ValueError:
        return False
