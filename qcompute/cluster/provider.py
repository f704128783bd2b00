"""What makes nodes: the base class operators write their own providers with.

A provider says which nodes there are, whether they are well, and how a circuit is run on one of them. The daemon runs
jobs through the `ProviderAdapter` that `NodeProvider.open_adapter` gives; for a provider with an `execute` of its own
that is a `qcompute.cluster.adapter.NodeAdapter`, which calls it in a child process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.adapter import NodeProgram, check_node_account, open_node_adapter
from qcompute.cluster.spec import NodeType, QPUNodeSpec
from qcompute.errors import ConfigError, Unavailable
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.units import Counts


class NodeProvider(ABC):
    """Subclass it, register it (`NodeProviderRegistry.register`), or name it by its path, ``my_lab.nodes:MyProvider``.

    Class attributes
        ``DISPLAY_NAME``: for people; ``Arguments``: a pydantic model of what `build_nodes` takes, checked by
        ``ClusterBuilder.add`` already; ``repeatable``: whether a circuit may be run again when it is not known whether
        it has run, because that costs nothing and harms nothing (a simulator); ``default_type``: what the vendor's
        devices are as nodes, where only the vendor knows which there are, so that `build_nodes` may give none.
    """

    DISPLAY_NAME: ClassVar[str] = ""
    Arguments: ClassVar[type[BaseModel] | None] = None
    repeatable: ClassVar[bool] = False
    default_type: ClassVar[NodeType | None] = None

    @abstractmethod
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:  # noqa: ANN401 - each provider's own
        """The nodes, at least one; the same arguments give the same nodes. Called in the daemon's process.

        Raises:
            ValueError: an argument is missing or wrong; the message names it.
        """

    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> Counts | None:  # noqa: ANN401 - a QuantumCircuit
        """Counts of so many shots of a Qiskit ``QuantumCircuit``, in Qiskit's bit order.

        The daemon calls it in a child process that has the secrets the nodes' ``credentials`` name, as
        ``QCOMPUTE_SECRET_<NAME>``, and no others. Import qiskit here and not at the top of the module. Returning None
        or raising NotImplementedError fails the job: nothing else ever runs in its place.
        """
        del circuit, shots, node_spec
        raise NotImplementedError(f"{self.display_name()} cannot run circuits: it has no execute")

    def health_check(self) -> bool:
        """Whether the nodes can be used; asked after `build_nodes`, and again from time to time. True by default."""
        return True

    def open_adapter(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> ProviderAdapter:
        """The adapter that runs circuits on ``nodes``; nothing is asked over a network. Call it on the main thread.

        Raises:
            ConfigError: it cannot be opened with these settings; the message names the fix.
        """
        return open_node_adapter(self._program(setup), nodes, setup)

    def check_setup(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> None:
        """Whether `open_adapter` could open it, without opening anything.

        Raises:
            ConfigError: it could not, whatever the vendor says; the message names the fix.
        """
        if type(self).open_adapter is NodeProvider.open_adapter:
            self._program(setup)
            check_node_account(nodes, setup)

    def waits_for(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> str | None:
        """Why an account that `open_adapter` opens would be offline all the same; None where nothing can be seen.

        Asked after `check_setup`, of this machine only. May block for seconds.
        """
        del nodes, setup
        return None

    def _program(self, setup: AccountSetup) -> NodeProgram:
        own = type(self)
        if own.execute is NodeProvider.execute:
            raise ConfigError(f"{self.display_name()} cannot run circuits: {own.__qualname__} has no execute")
        return NodeProgram.of(own, self.display_name(), setup.arguments, repeatable=self.repeatable)

    def check_health(self, adapter: ProviderAdapter) -> None:
        """Raise with the reason when the account cannot be used now. May ask the vendor, so it may block.

        Raises:
            VendorError: the reason, in words for the operator.
        """
        del adapter
        if not self.health_check():
            raise Unavailable(f"{self.display_name()} says that it cannot be used: its health_check gave False")

    @classmethod
    def display_name(cls) -> str:
        """``DISPLAY_NAME``, or the class's own."""
        return cls.DISPLAY_NAME or cls.__name__

    @classmethod
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str] | None:
        """How many nodes of which kind there would be, without building any; None: `build_nodes` alone knows."""
        del arguments
        return None
