"""Nodes behind ``POST /run-circuit``, through the ``rest`` adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field
from typing_extensions import override

from qcompute.cluster.builtin.vendor import NodeArguments, SecretName, VendorProvider
from qcompute.cluster.spec import NodeType, QPUNodeSpec
from qcompute.units import ProviderKey


class RestArguments(NodeArguments):
    """Arguments of ``custom_rest``."""

    endpoints: tuple[str, ...] = Field(min_length=1)
    """Base URLs; each is a node."""
    max_qubits: int = Field(default=30, ge=1)
    """The widest circuit of an endpoint."""
    api_key: SecretName | Literal[""] = ""
    """Name of the secret that is sent as bearer token; empty sends none."""
    timeout_s: int = Field(default=60, ge=1)
    """The longest wait for the answer to a circuit, in seconds. Longer than the longest run: whoever gives up earlier
    does not know whether it was run, and the job is held."""
    node_type: NodeType = NodeType.CPU_AER
    """What runs the circuits; a ``qpu_…`` only where a quantum computer runs every one."""


class CustomRest(VendorProvider[RestArguments]):
    """Endpoints of one operator; a node is an endpoint, called ``rest_1``, ``rest_2`` … in their order."""

    DISPLAY_NAME: ClassVar[str] = "Custom REST endpoints"
    Arguments: ClassVar[type[BaseModel] | None] = RestArguments
    vendor: ClassVar[ProviderKey] = ProviderKey("rest")
    account_words: ClassVar[Mapping[str, str]] = {
        "token": "api_key",
        "base_urls": "endpoints",
        "num_qubits": "max_qubits",
        "submit_seconds": "timeout_s",
        "device_type": "node_type",
    }
    derived: ClassVar[frozenset[str]] = frozenset({"submit_seconds", "device_type"})

    @override
    def nodes(self, arguments: RestArguments) -> list[QPUNodeSpec]:
        secret = {"api_key": arguments.api_key} if arguments.api_key else {}
        return [
            QPUNodeSpec(
                f"rest_{number}",
                arguments.node_type,
                arguments.max_qubits,
                tags=["rest"],
                credentials=secret,
                metadata={"url": url},
            )
            for number, url in enumerate(arguments.endpoints, 1)
        ]

    @override
    def config(self, arguments: RestArguments) -> dict[str, Any]:
        token = {"token": arguments.api_key} if arguments.api_key else {}
        return token | {
            "base_urls": list(arguments.endpoints),
            "num_qubits": arguments.max_qubits,
            "submit_seconds": float(arguments.timeout_s),
            "device_type": "QPU" if arguments.node_type.is_qpu else "SIMULATOR",
        }

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str]:
        return Counter(REST=len(cls.arguments(arguments).endpoints))
