"""The subnet: the wallet, the chain, our registration, what is published of us."""

from __future__ import annotations

import asyncio

from qcompute.chain import open_chain
from qcompute.chain.contract import Chain, Metagraph, Signer
from qcompute.chain.keys import load_signer
from qcompute.console.doctor.findings import Finding, failed, ok, warning
from qcompute.errors import ConfigError, Unavailable
from qcompute.miner.settings import Settings


def wallet(settings: Settings) -> tuple[Finding, Signer | None]:
    """The hotkey the daemon would sign with."""
    try:
        signer = load_signer(settings.wallet)
    except ConfigError as error:
        return failed(
            "wallet", str(error), "see `btcli wallet list`; the daemon needs a hotkey without a password"
        ), None
    return ok("wallet", f"{settings.wallet.name}/{settings.wallet.hotkey}: {signer.hotkey}"), signer


async def chain(settings: Settings, signer: Signer | None) -> list[Finding]:
    """Whether the chain answers, and what it says of us."""
    try:
        opened = open_chain(settings.netuid, settings.subtensor, settings.wallet, settings.chain)
        return await _asked(opened, settings, signer)
    except ConfigError as error:
        return [failed("chain", str(error), "mend the file, or leave chain.metagraph_file unset to ask the chain")]


async def _asked(opened: Chain, settings: Settings, signer: Signer | None) -> list[Finding]:
    where = settings.subtensor.chain_endpoint or settings.subtensor.network
    try:
        async with asyncio.timeout(settings.chain.timeout_seconds * 2):
            metagraph = await opened.metagraph()
    except (Unavailable, TimeoutError) as error:
        why = str(error) or "no answer"
        fix = "check this machine's network, --subtensor.network and --subtensor.chain_endpoint"
        return [failed("chain", f"{where}: {why}", fix)]
    finally:
        await opened.close()
    permits = sum(neuron.validator_permit for neuron in metagraph.neurons.values())
    seen = ok("chain", f"{where}: subnet {metagraph.netuid} at block {metagraph.block}, {permits} validators")
    return [seen] if signer is None else [seen, *_about_us(metagraph, settings, signer)]


def _about_us(metagraph: Metagraph, settings: Settings, signer: Signer) -> list[Finding]:
    ours = metagraph.neurons.get(signer.hotkey)
    if ours is None:
        fix = (
            f"btcli subnet register --netuid {settings.netuid} --wallet.name {settings.wallet.name} "
            f"--wallet.hotkey {settings.wallet.hotkey}"
        )
        return [failed("registration", f"{signer.hotkey} is not registered on subnet {settings.netuid}", fix)]
    registered = ok("registration", f"uid {ours.uid}, stake {ours.stake:g}")
    if settings.chain.metagraph_file is not None:
        return [registered]
    return [registered, _published(ours.axon, settings)]


def _published(axon: str | None, settings: Settings) -> Finding:
    ip = settings.axon.external_ip or settings.axon.ip
    wanted = f"{ip}:{settings.axon.external_port or settings.axon.port}"
    if axon == wanted:
        return ok("published axon", f"the chain says {axon}")
    fix = "start the miner: it publishes by itself; with --axon.external_ip set to the address validators reach"
    return warning("published axon", f"the chain says {axon or 'nothing'}, the settings {wanted}", fix)
