"""Who may call us, and how we are found. The only package that imports bittensor."""

from __future__ import annotations

from qcompute.chain.contract import Chain
from qcompute.chain.settings import ChainSettings, SubtensorSettings, WalletSettings


def open_chain(netuid: int, subtensor: SubtensorSettings, wallet: WalletSettings, chain: ChainSettings) -> Chain:
    """The chain of these settings: a static file when one is named, else the network. Connects when first used."""
    if chain.metagraph_file is not None:
        from qcompute.chain.static import StaticChain  # noqa: PLC0415 - each brings its own weight

        return StaticChain(chain.metagraph_file)
    from qcompute.chain.bittensor_chain import BittensorChain  # noqa: PLC0415 - 40 MB of network client

    return BittensorChain(netuid, subtensor, wallet, chain)
