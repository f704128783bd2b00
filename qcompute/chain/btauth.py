"""Verifying ``btauth/1`` requests with bittensor's own code.

Which signature schemes are accepted is said here and not left to bittensor: a parameter for it exists in some
versions only, and its default changed between them. An sr25519 hotkey is what the subnet registers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

from qcompute.chain.keys import hidden_arguments
from qcompute.errors import NotAllowed
from qcompute.units import Hotkey

ACCEPTED_SCHEMES: Final = ("sr25519",)

_SCHEME_ARGUMENTS: Final = ("accepted_schemes", "allowed_schemes", "schemes", "accepted_crypto_types")
"""What versions after 11.3.0 may call it."""


class _AnyNonce:
    """Accepts every nonce: used ones are remembered in the ledger, in the transaction that stores the job."""

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        del hotkey_ss58, nonce_ns
        return True


_ANY_NONCE: Final = _AnyNonce()


@cache
def _http_auth() -> ModuleType:
    """Loaded with the chain, or where there is none with the first request of the kind."""
    with hidden_arguments():
        from bittensor import http_auth  # noqa: PLC0415 - see `qcompute.chain.keys`
    return http_auth


@cache
def _schemes() -> dict[str, Any]:
    known = inspect.signature(_http_auth().verify).parameters
    return {name: ACCEPTED_SCHEMES for name in _SCHEME_ARGUMENTS if name in known}


def verify_btauth(
    headers: Mapping[str, str],
    body: bytes,
    *,
    path: str,
    our_hotkey: Hotkey,
    past_seconds: float,
    ahead_seconds: float,
    now_ns: int,
) -> tuple[Hotkey, int]:
    """Who signed this POST, and the nonce in nanoseconds; whether it was used before is for the caller to check.

    Raises:
        NotAllowed: a header is missing or malformed, the receiver is not us, it is stale, or the signature over
            exactly this body is not the sender's.
    """
    http_auth = _http_auth()
    scheme = headers.get(http_auth.HEADER_CRYPTO.lower(), "sr25519")
    if scheme.lower() not in ACCEPTED_SCHEMES:
        raise NotAllowed(f"Not Verified with error: signature scheme must be {' or '.join(ACCEPTED_SCHEMES)}")
    try:
        caller = http_auth.verify(
            headers,
            body,
            method="POST",
            path=path,
            self_hotkey_ss58=our_hotkey,
            max_age=past_seconds,
            allowed_skew=ahead_seconds,
            require_receiver=True,
            nonce_store=_ANY_NONCE,
            now_ns=now_ns,
            **_schemes(),
        )
    except http_auth.AuthError as error:
        # bittensor's texts never echo signature or payload (its own promise, see AuthError).
        raise NotAllowed(f"Not Verified with error: {error}") from None
    return Hotkey(caller.hotkey_ss58), caller.nonce_ns


def sign_btauth(keypair: Any, *, path: str, body: bytes, receiver: Hotkey, nonce_ns: int) -> dict[str, str]:  # noqa: ANN401 - whatever bittensor takes for a signer
    """Headers of a signed POST, for clients in tests and local runs."""
    return _http_auth().sign(keypair, method="POST", path=path, body=body, receiver_ss58=receiver, nonce_ns=nonce_ns)
