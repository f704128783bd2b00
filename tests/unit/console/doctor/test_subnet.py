"""What the doctor says of the wallet and of the chain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from qcompute.chain.contract import AxonEndpoint, Chain, Metagraph, Neuron
from qcompute.console.doctor import subnet
from qcompute.console.doctor.findings import Finding, Level
from qcompute.errors import Unavailable
from qcompute.units import Hotkey
from tests.unit.console.doctor.servers import settings, wallet


class Said(Chain):
    """A chain that says one thing: a metagraph, or that it cannot be reached."""

    def __init__(self, answer: Metagraph | Unavailable) -> None:
        self._answer = answer
        self.is_closed = False

    @override
    async def metagraph(self) -> Metagraph:
        if isinstance(self._answer, Unavailable):
            raise self._answer
        return self._answer

    @override
    async def publish_axon(self, endpoint: AxonEndpoint) -> None:
        raise AssertionError(endpoint)

    @override
    async def close(self) -> None:
        self.is_closed = True


def let_chain(monkeypatch: pytest.MonkeyPatch, chain: Chain) -> None:
    def opened(*_: object) -> Chain:
        return chain

    monkeypatch.setattr(subnet, "open_chain", opened)


def levels(found: Sequence[Finding]) -> dict[str, Level]:
    return {one.subject: one.level for one in found}


def write_metagraph(folder: Path, neurons: list[dict[str, Any]]) -> None:
    (folder / "metagraph.json").write_text(json.dumps({"netuid": 48, "block": 7, "neurons": neurons}))


def test_a_wallet_that_is_not_there(tmp_path: Path) -> None:
    found, signer = subnet.wallet(settings(tmp_path))
    assert (found.level, signer) == (Level.FAILED, None)
    assert "--wallet.name" in found.words


async def test_a_registered_hotkey(tmp_path: Path) -> None:
    made = wallet(tmp_path)
    write_metagraph(tmp_path, [{"hotkey": made.hotkey, "uid": 3, "stake": 12.5}])
    found, signer = subnet.wallet(settings(tmp_path))
    assert (found.level, found.words) == (Level.OK, f"miner/default: {made.hotkey}")
    _, registration = await subnet.chain(settings(tmp_path), signer)
    assert registration == Finding("registration", Level.OK, "uid 3, stake 12.5")


async def test_a_hotkey_that_is_not_registered_is_told_the_command(tmp_path: Path) -> None:
    made = wallet(tmp_path)
    write_metagraph(tmp_path, [])
    _, registration = await subnet.chain(settings(tmp_path), made)
    assert registration.level is Level.FAILED
    assert registration.fix == "btcli subnet register --netuid 48 --wallet.name miner --wallet.hotkey default"


async def test_a_metagraph_file_that_is_broken(tmp_path: Path) -> None:
    (tmp_path / "metagraph.json").write_text("{")
    (found,) = await subnet.chain(settings(tmp_path), None)
    assert (found.level, "not JSON" in found.words) == (Level.FAILED, True)


@pytest.mark.parametrize(
    ("axon", "level"), [("203.0.113.7:8091", Level.OK), ("203.0.113.7:9000", Level.WARNING), (None, Level.WARNING)]
)
async def test_what_the_chain_says_of_our_axon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axon: str | None, level: Level
) -> None:
    made = wallet(tmp_path)
    neuron = Neuron(0, made.hotkey, validator_permit=False, stake=0.0, axon=axon)
    chain = Said(Metagraph(48, 7, datetime.now(UTC), {Hotkey(made.hotkey): neuron}))
    let_chain(monkeypatch, chain)
    found = await subnet.chain(settings(tmp_path, chain={}, axon={"external_ip": "203.0.113.7"}), made)
    assert levels(found) == {"chain": Level.OK, "registration": Level.OK, "published axon": level}
    assert chain.is_closed


async def test_a_chain_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Said(Unavailable("the chain did not answer within 30 s"))
    let_chain(monkeypatch, chain)
    (found,) = await subnet.chain(settings(tmp_path, chain={}), wallet(tmp_path))
    assert (found.level, found.words) == (Level.FAILED, "finney: the chain did not answer within 30 s")
    assert "--subtensor.network" in found.fix
    assert chain.is_closed
