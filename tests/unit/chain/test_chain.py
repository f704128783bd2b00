"""The chain may be away: what was known stays, and what changed is published once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bittensor as bt
import pytest
from bittensor.settings import NETWORKS as KNOWN_TO_BITTENSOR
from bittensor.settings import resolve_endpoint
from pydantic import ValidationError
from typing_extensions import override

from qcompute.chain import open_chain
from qcompute.chain import watch as watch_module
from qcompute.chain.bittensor_chain import BittensorChain
from qcompute.chain.contract import AxonEndpoint, Chain, Metagraph, Neuron
from qcompute.chain.keys import create_wallet, load_signer, signer_from_uri, verify_signature
from qcompute.chain.settings import NETWORKS, ChainSettings, SubtensorSettings, WalletSettings
from qcompute.chain.static import StaticChain
from qcompute.chain.watch import AxonPublisher, MetagraphWatch
from qcompute.errors import ConfigError, Rejected, Unavailable
from qcompute.units import Hotkey, utc_now

ALICE = signer_from_uri("//Alice").hotkey


def metagraph(block: int = 1, axon: str | None = None) -> Metagraph:
    return Metagraph(48, block, utc_now(), {ALICE: Neuron(3, ALICE, validator_permit=True, stake=10.0, axon=axon)})


@dataclass
class ScriptedChain(Chain):
    """Answers what a test says."""

    answers: list[Metagraph | Exception]
    published: list[AxonEndpoint] = field(default_factory=list[AxonEndpoint])
    refusals: list[Exception] = field(default_factory=list[Exception])

    @override
    async def metagraph(self) -> Metagraph:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @override
    async def publish_axon(self, endpoint: AxonEndpoint) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.published.append(endpoint)

    @override
    async def close(self) -> None:
        return


async def test_an_outage_keeps_the_last_metagraph_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    away = Unavailable("the chain did not answer")
    watch = MetagraphWatch(ScriptedChain([metagraph(5), away, away, metagraph(9)]), refresh_seconds=300)
    assert watch.current is None
    assert await watch.refresh()
    assert not await watch.refresh()
    assert not await watch.refresh()
    assert watch.current is not None
    assert (watch.current.block, watch.is_failing) == (5, True)
    assert await watch.refresh()
    assert (watch.current.block, watch.is_failing) == (9, False)
    lines = [record.message for record in caplog.records]
    assert len([line for line in lines if "serving on with the metagraph of block 5" in line]) == 1
    assert len([line for line in lines if "answers again" in line]) == 1


async def test_a_restart_during_an_outage_serves_what_was_known(tmp_path: Path) -> None:
    cache = tmp_path / "metagraph.json"
    await MetagraphWatch(ScriptedChain([metagraph(5)]), refresh_seconds=300, cache_file=cache).refresh()
    later = MetagraphWatch(ScriptedChain([Unavailable("away")]), refresh_seconds=300, cache_file=cache)
    task = asyncio.create_task(later.run())
    async with asyncio.timeout(5):
        known = await later.wait_until_known()
    task.cancel()
    assert known.block == 5
    assert known.neurons[ALICE] == metagraph().neurons[ALICE]


async def test_a_start_waits_for_the_metagraph_but_not_for_ever() -> None:
    """The first visit after a start was answered 503, because the port was open before the metagraph was read."""

    class Slow(ScriptedChain):
        @override
        async def metagraph(self) -> Metagraph:
            await asyncio.sleep(60)
            return metagraph()

    quick = MetagraphWatch(ScriptedChain([metagraph(5)]), refresh_seconds=300)
    await quick.prime(5)
    assert quick.current is not None
    slow = MetagraphWatch(Slow([]), refresh_seconds=300)
    async with asyncio.timeout(5):
        await slow.prime(0.05)
    assert slow.current is None


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"netuid": 48}'])
async def test_a_broken_cache_is_no_cache(tmp_path: Path, text: str) -> None:
    cache = tmp_path / "metagraph.json"
    cache.write_text(text)
    watch = MetagraphWatch(ScriptedChain([metagraph(7)]), refresh_seconds=300, cache_file=cache)
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(5):
        assert (await watch.wait_until_known()).block == 7
    task.cancel()


async def published(chain: ScriptedChain, watch: MetagraphWatch, endpoint: AxonEndpoint | None) -> None:
    """Run the publisher until it has nothing more to do."""
    await watch.refresh()
    task = asyncio.create_task(AxonPublisher(chain, watch, ALICE, endpoint).run())
    for _ in range(50):
        await asyncio.sleep(0.002)
    assert not task.done()
    task.cancel()


async def test_the_axon_is_published_once_and_only_when_it_changed() -> None:
    endpoint = AxonEndpoint("192.0.2.1", 8091)
    chain = ScriptedChain([metagraph()])
    await published(chain, MetagraphWatch(chain, refresh_seconds=300), endpoint)
    assert chain.published == [endpoint]
    same = ScriptedChain([metagraph(axon="192.0.2.1:8091")])
    await published(same, MetagraphWatch(same, refresh_seconds=300), endpoint)
    assert same.published == []
    none = ScriptedChain([metagraph()])
    await published(none, MetagraphWatch(none, refresh_seconds=300), None)
    assert none.published == []


async def test_publishing_is_tried_again_and_never_fatal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch_module, "FIRST_RETRY_SECONDS", 0.001)
    chain = ScriptedChain([metagraph()], refusals=[Unavailable("away"), Rejected("too soon")])
    await published(chain, MetagraphWatch(chain, refresh_seconds=300), AxonEndpoint("192.0.2.1", 8091))
    assert len(chain.published) == 1
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


async def test_a_hotkey_that_is_not_registered_is_told_what_to_run(caplog: pytest.LogCaptureFixture) -> None:
    chain = ScriptedChain([Metagraph(48, 1, utc_now(), {})])
    await published(chain, MetagraphWatch(chain, refresh_seconds=300), AxonEndpoint("192.0.2.1", 8091))
    assert chain.published == []
    assert "btcli subnet register" in caplog.text


async def test_a_static_metagraph_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "metagraph.json"
    chain = open_chain(48, SubtensorSettings(), WalletSettings(), ChainSettings(metagraph_file=file))
    assert isinstance(chain, StaticChain)
    for stake in (1.0, 2.0):
        file.write_text(json.dumps({"neurons": [{"hotkey": ALICE, "uid": 1, "stake": stake}]}))
        assert (await chain.metagraph()).neurons[ALICE].stake == stake
    await chain.publish_axon(AxonEndpoint("127.0.0.1", 1))
    await chain.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "No such file"), ("x", "not JSON"), ("{}", "neurons"), ('{"neurons": [{"hotkey": "x"}]}', "uid")],
)
async def test_a_static_metagraph_that_cannot_be_read_names_its_setting(
    tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "metagraph.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=f"chain.metagraph_file.*{words}"):
        await StaticChain(file).metagraph()


def test_every_network_bittensor_takes_is_taken() -> None:
    assert set(NETWORKS) == set(KNOWN_TO_BITTENSOR)
    for given in (*NETWORKS, "ws://127.0.0.1:9944", "wss://archive.chain.opentensor.ai:443"):
        resolve_endpoint(given)
        assert SubtensorSettings(network=given).network == given
        assert SubtensorSettings(chain_endpoint=given).chain_endpoint == given


@pytest.mark.parametrize(
    ("given", "hint"),
    [("fin", "; did you mean finney?"), ("Finney", "; did you mean finney?"), ("http://node.example:9944", "")],
)
def test_a_misspelt_network_is_refused_with_the_one_that_was_meant(given: str, hint: str) -> None:
    """``--subtensor.network fin`` was taken, and a miner without a chain was left to find out why by itself."""
    words = "is no network: write finney, test, archive, devnet, local, or a node's address, ws://… or wss://…"
    for name in ("network", "chain_endpoint"):
        with pytest.raises(ValidationError) as raised:
            SubtensorSettings.model_validate({name: given})
        (error,) = raised.value.errors(include_url=False)
        assert (error["loc"], error["msg"]) == ((name,), f"Value error, {given!r} {words}{hint}")


def test_beside_an_endpoint_the_network_is_a_name_for_the_platform_alone() -> None:
    subtensor = SubtensorSettings(network="our-own", chain_endpoint="ws://127.0.0.1:9944")
    assert subtensor.network == "our-own"


def chain_of(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BittensorChain:
    """The real chain class on a client of ours: the network is what cannot run here."""
    wallet = WalletSettings(name="w", hotkey="h", path=tmp_path)
    chain = BittensorChain(48, SubtensorSettings(network="local"), wallet, ChainSettings(timeout_seconds=0.5))

    def connect_to(_: str) -> SimpleNamespace:
        return SimpleNamespace(connect=lambda: _answer(client))

    monkeypatch.setattr(bt, "Client", connect_to)
    return chain


async def _answer(value: Any) -> Any:
    return value


def answering(value: Any) -> Callable[[int], Coroutine[Any, Any, Any]]:
    async def metagraph_of(_: int) -> Any:
        return value

    return metagraph_of


def client_with(**answers: Any) -> SimpleNamespace:
    return SimpleNamespace(
        subnets=SimpleNamespace(metagraph=answers.get("metagraph")),
        execute=answers.get("execute"),
        close=lambda: _answer(None),
    )


async def test_bittensors_metagraph_becomes_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    neuron = SimpleNamespace(
        uid=3, hotkey=ALICE, validator_permit=True, total_stake=bt.alpha(12.5, 48), axon="192.0.2.1:8091"
    )
    raw = SimpleNamespace(block=77, neurons=[neuron])
    chain = chain_of(client_with(metagraph=answering(raw)), monkeypatch, tmp_path)
    seen = await chain.metagraph()
    assert seen.block == 77
    assert seen.neurons == {ALICE: Neuron(3, ALICE, validator_permit=True, stake=12.5, axon="192.0.2.1:8091")}
    await chain.close()


async def test_a_chain_that_hangs_or_breaks_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def hang(_: int) -> None:
        await asyncio.sleep(60)

    async def broken(_: int) -> None:
        raise ConnectionResetError

    for behaviour, words in ((hang, "did not answer"), (broken, "ConnectionResetError")):
        chain = chain_of(client_with(metagraph=behaviour), monkeypatch, tmp_path)
        with pytest.raises(Unavailable, match=words):
            await chain.metagraph()
    absent = chain_of(client_with(metagraph=answering(None)), monkeypatch, tmp_path)
    with pytest.raises(Unavailable, match="--netuid"):
        await absent.metagraph()


async def test_serving_is_an_intent_of_the_hotkey(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    async def execute(intent: Any, wallet: Any) -> Any:
        seen.append((intent.netuid, intent.ip, intent.port, wallet.hotkey_str))
        return SimpleNamespace(success=len(seen) == 1, message="rate limit")

    chain = chain_of(client_with(execute=execute), monkeypatch, tmp_path)
    await chain.publish_axon(AxonEndpoint("192.0.2.1", 8091))
    assert seen == [(48, "192.0.2.1", 8091, "h")]
    with pytest.raises(Rejected, match="rate limit"):
        await chain.publish_axon(AxonEndpoint("192.0.2.1", 8091))


def test_a_wallet_signs_and_shows_no_secret(tmp_path: Path) -> None:
    made = create_wallet("w", "h", tmp_path)
    loaded = load_signer(WalletSettings(name="w", hotkey="h", path=tmp_path))
    assert made.hotkey == loaded.hotkey
    assert verify_signature(b"message", loaded.sign(b"message"), made.hotkey)
    assert not verify_signature(b"other", loaded.sign(b"message"), made.hotkey)
    secret = json.loads((tmp_path / "w" / "hotkeys" / "h").read_text())["secretSeed"]
    assert secret not in repr(loaded)
    with pytest.raises(ConfigError, match="exists already"):
        create_wallet("w", "h", tmp_path)


@pytest.mark.parametrize(("content", "words"), [(None, "there is no hotkey"), ("{}", "not a usable"), ("x", "not a")])
def test_a_wallet_that_cannot_be_used_names_the_flags(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        file = tmp_path / "w" / "hotkeys" / "h"
        file.parent.mkdir(parents=True)
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"{words}.*--wallet.name"):
        load_signer(WalletSettings(name="w", hotkey="h", path=tmp_path))


def test_a_hotkey_without_its_private_half_is_no_key_to_start_with(tmp_path: Path) -> None:
    """A file with the address alone was taken for a hotkey, and the daemon met that at its first signature."""
    file = tmp_path / "w" / "hotkeys" / "h"
    file.parent.mkdir(parents=True)
    file.write_text(f'{{"ss58Address": "{signer_from_uri("//Alice").hotkey}"}}')
    with pytest.raises(ConfigError, match=r"--wallet\.hotkey"):
        load_signer(WalletSettings(name="w", hotkey="h", path=tmp_path))


@pytest.mark.parametrize("hotkey", ["", "nobody", ALICE[:-1], ALICE + "x", "5" * 48])
def test_what_is_no_address_verifies_nothing(hotkey: str) -> None:
    assert not verify_signature(b"m", b"\1" * 64, Hotkey(hotkey))
    assert not verify_signature(b"m", b"\1" * 63, ALICE)
