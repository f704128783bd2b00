"""Every secret a running scene uses, collected from the scene itself, and every place one could come out at."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import pytest

from qcompute.chain.contract import Signer
from qcompute.local import token_service
from qcompute.units import Hotkey
from tests.scene import Scene

_KEY_FIELDS: Final = ("secretPhrase", "secretSeed", "privateKey")


class RecordingSigner(Signer):
    """Signs with another signer and keeps what came of it."""

    def __init__(self, signer: Signer, made: set[str]) -> None:
        self._signer = signer
        self._made = made

    @property
    def hotkey(self) -> Hotkey:
        """The other signer's."""
        return self._signer.hotkey

    def sign(self, message: bytes) -> bytes:
        """A signature, kept as hex."""
        signature = self._signer.sign(message)
        self._made.add(signature.hex())
        return signature


@dataclass
class Secrets:
    """What must not come out, by kind. Kinds stay apart so that a test can see that none of them is empty."""

    by_kind: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def add(self, kind: str, *values: str) -> None:
        """Keep values of a kind."""
        self.by_kind.setdefault(kind, set()).update(values)

    def watch(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on keep every claim and signature that the scene's parts send one another."""
        claimant, presigned = token_service._claimant, scene.platform.store.presigned

        def claiming(authorization: str) -> Hotkey | None:
            self._claim(authorization.removeprefix("Bearer "))
            return claimant(authorization)

        def signing(upload_id: str) -> str:
            url = presigned(upload_id)
            self.add("signature of an upload URL", _signature(url))
            return url

        monkeypatch.setattr(token_service, "_claimant", claiming)
        monkeypatch.setattr(scene.platform.store, "presigned", signing)
        requests = self.by_kind.setdefault("signature of a request", set())
        scene.validator._dendrite._signer = RecordingSigner(scene.validator.signer, requests)

    def _claim(self, claim: str) -> None:
        signature = json.loads(base64.b64decode(claim))["signature"]
        self.add("claim for a token", claim, signature, base64.b64decode(signature).hex())

    def collect(self, scene: Scene) -> None:
        """Add what lies in files and tables: wallet, tokens, the ledger's key, signatures of circuits' URLs."""
        for file in (scene.miner.folder / "wallets").rglob("*"):
            document: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
            values = [str(document[name]).removeprefix("0x") for name in _KEY_FIELDS if document.get(name)]
            self.add("wallet", *values)
        self.add("token", *scene.platform.tokens._tokens)
        self.add("key of the ledger", key_file(scene).read_text().strip())
        urls = [execution.input_data_url for execution in scene.platform.jobs.executions.values()]
        self.add("signature of a circuit's URL", *(_signature(url) for url in urls))

    def found_in(self, places: Mapping[str, bytes]) -> list[str]:
        """Where a secret stands, as it is or in one of the forms it may take on its way; names no value."""
        return [
            f"{kind} in {place}"
            for place, content in places.items()
            for kind, values in self.by_kind.items()
            if any(form in content for value in values for form in forms(value))
        ]


def key_file(scene: Scene) -> Path:
    """The one file that may hold the ledger's key."""
    return scene.miner.ledger_path.with_name(scene.miner.ledger_path.name + ".key")


def forms(secret: str) -> Iterator[bytes]:
    """As it is, quoted for a URL, for JSON, as base64 and as hex."""
    raw = secret.encode()
    yield from {raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    yield from (base64.b64encode(raw), base64.urlsafe_b64encode(raw), raw.hex().encode())


def files_of(scene: Scene, *, but: Iterable[Path] = ()) -> dict[str, bytes]:
    """All bytes of everything the miner has written: its log, its ledger with log and index, its caches."""
    left_out = {*but, key_file(scene)}
    folder = scene.miner.folder
    files = [file for file in (folder / "data").rglob("*") if file.is_file() and file not in left_out]
    return {str(file.relative_to(folder)): file.read_bytes() for file in [*files, scene.miner.log]}


def children_of(pid: int) -> dict[str, bytes]:
    """Command line and environment of every process below ``pid``; one not yet started is passed over."""
    own = Path(f"/proc/{pid}/cmdline").read_bytes()
    seen: dict[str, bytes] = {}
    for child in _children(pid):
        command, environment = (Path(f"/proc/{child}/{name}").read_bytes() for name in ("cmdline", "environ"))
        # Between fork and exec a child still is its parent, and its environment the parent's.
        if command not in {own, b""}:
            seen["cmdline of a child"] = seen.get("cmdline of a child", b"") + command
            seen["environ of a child"] = seen.get("environ of a child", b"") + environment
    return seen


def command_line_of(pid: int) -> dict[str, bytes]:
    """What every user of the machine can see of the daemon itself."""
    return {"cmdline of the daemon": Path(f"/proc/{pid}/cmdline").read_bytes()}


def reprs_of(*roots: object) -> dict[str, bytes]:
    """``repr`` and ``str`` of objects and of everything of ours that hangs below them."""
    texts: list[str] = []
    waiting, seen = list(roots), set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        texts += [repr(one), str(one)]
        waiting += [part for part in _attributes(one) if _is_ours(part)]
    return {"repr of settings and parts": "\n".join(texts).encode()}


def _attributes(one: object) -> list[object]:
    if isinstance(one, list | tuple):
        return list(cast("list[object]", one))
    own: list[object] = list(vars(one).values()) if hasattr(one, "__dict__") else []
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    return own + [getattr(one, name) for name in slots if hasattr(one, name)]


def _is_ours(one: object) -> bool:
    return isinstance(one, list | tuple) or type(one).__module__.startswith("qcompute")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _signature(url: str) -> str:
    return urlsplit(url).query.rpartition("X-Amz-Signature=")[2]
