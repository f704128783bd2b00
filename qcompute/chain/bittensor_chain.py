"""The real chain, through bittensor 11: metagraph in, axon endpoint out. Every call has a time limit."""

# bittensor's dynamic namespaces are only partly typed
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from typing_extensions import override

from qcompute.chain.contract import AxonEndpoint, Chain, Metagraph, Neuron
from qcompute.chain.keys import hidden_arguments
from qcompute.chain.settings import ChainSettings, SubtensorSettings, WalletSettings
from qcompute.errors import Rejected, Unavailable
from qcompute.units import Hotkey, utc_now

with hidden_arguments():
    import bittensor as bt
    from bittensor.intents.serving import ServeAxon
    from bittensor.result import BittensorError
    from bittensor.wallet import Wallet

_log = logging.getLogger(__name__)

T = TypeVar("T")

RAO: Final = 1_000_000_000
"""The chain's smallest unit in one alpha."""


class BittensorChain(Chain):
    """One subnet of one network. Connects when first needed, and again after a failure."""

    def __init__(self, netuid: int, subtensor: SubtensorSettings, wallet: WalletSettings, chain: ChainSettings) -> None:
        self._netuid = netuid
        self._endpoint = subtensor.chain_endpoint or subtensor.network
        self._wallet = wallet
        self._timeout = chain.timeout_seconds
        self._client: Any = None
        self._lock = asyncio.Lock()

    @override
    async def metagraph(self) -> Metagraph:
        """Read it now; raises `Unavailable` when the chain cannot be reached or answers nonsense."""
        raw = await self._with_client(lambda client: client.subnets.metagraph(self._netuid))
        if raw is None:
            raise Unavailable(f"the chain has no subnet {self._netuid}; check --netuid and --subtensor.network")
        neurons = {
            Hotkey(neuron.hotkey): Neuron(
                uid=int(neuron.uid),
                hotkey=Hotkey(neuron.hotkey),
                validator_permit=bool(neuron.validator_permit),
                stake=neuron.total_stake.rao / RAO,
                axon=neuron.axon,
            )
            for neuron in raw.neurons
        }
        return Metagraph(self._netuid, int(raw.block), utc_now(), neurons)

    @override
    async def publish_axon(self, endpoint: AxonEndpoint) -> None:
        """Write the endpoint to the chain, signed by the hotkey.

        Raises:
            Unavailable: the chain could not be reached.
            Rejected: it said no: not registered, or too soon after the last time.
        """
        wallet = Wallet(self._wallet.name, self._wallet.hotkey, str(self._wallet.path.expanduser()))
        intent = ServeAxon(netuid=self._netuid, ip=endpoint.ip, port=endpoint.port)
        result = await self._with_client(lambda client: client.execute(intent, wallet))
        if not getattr(result, "success", True):
            raise Rejected(f"the chain did not accept the axon: {_short(getattr(result, 'message', result))}")

    @override
    async def close(self) -> None:
        """Close the connection."""
        await self._disconnect()

    async def _with_client(self, use: Callable[[Any], Awaitable[T]]) -> T:
        async with self._lock:  # one connection, one call at a time: refreshes are rare
            try:
                async with asyncio.timeout(self._timeout):
                    if self._client is None:
                        self._client = await bt.Client(self._endpoint).connect()
                    return await use(self._client)
            except TimeoutError:
                await self._disconnect()
                raise Unavailable(f"the chain did not answer within {self._timeout:g} s") from None
            except (BittensorError, OSError, ValueError, RuntimeError) as error:
                await self._disconnect()
                raise Unavailable(f"the chain cannot be used: {type(error).__name__}: {_short(error)}") from error

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(5):
                await client.close()
        except (TimeoutError, BittensorError, OSError, RuntimeError) as error:
            _log.debug("closing the chain connection: %s", type(error).__name__)


def _short(text: object) -> str:
    return " ".join(str(text).split())[:200]
