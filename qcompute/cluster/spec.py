"""Nodes as the cluster specification names them (`NodeType`, `QPUNodeSpec`): plain data, safe to print.

The names and fields are those of softQCOS' Provider API. Different here: ``credentials`` holds the *names* of secrets
and nothing else, because specs end up in reports and logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, cast

from qcompute.connections.credentials import checked_name
from qcompute.units import DeviceId

DEVICE: Final = "device_id"
"""In ``metadata``: the device of the node's account, where it is not called like the node."""
DEVICE_TYPE: Final = "device_type"
"""In ``metadata``: ``QPU`` or ``SIMULATOR``, where it is not what the node's type says: a cloud's simulator."""
OFFLINE_REASON: Final = "offline_reason"
"""In ``metadata``: why the node is offline."""
NOTE: Final = "note"
"""In ``metadata``: what must be known about ``max_qubits``."""
LOW_ENTANGLEMENT: Final = "this width holds for circuits of low entanglement only"

_CREDENTIAL: Final = re.compile(r"(^|_)(token|secret|passw(or)?d|passphrase|api_?key|key)$")
_USER_IN_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*@", re.IGNORECASE)


class NodeType(StrEnum):
    """What runs a node's circuits."""

    GPU_AER = "gpu_aer"
    """State vector on a GPU, by Aer."""
    GPU_TENSOR = "gpu_tensor"
    """Matrix product states, by Aer; wide for low entanglement only."""
    CPU_AER = "cpu_aer"
    """Aer on a CPU."""
    CPU_NUMPY = "cpu_numpy"
    """A minimal simulation with numpy."""
    QPU_IBM = "qpu_ibm"
    QPU_IONQ = "qpu_ionq"
    QPU_AZURE = "qpu_azure"
    QPU_BRAKET = "qpu_braket"

    @property
    def is_qpu(self) -> bool:
        """Whether a quantum computer runs it; everything else is a simulator and says so."""
        return self in _QPUS


_QPUS: Final = frozenset({NodeType.QPU_IBM, NodeType.QPU_IONQ, NodeType.QPU_AZURE, NodeType.QPU_BRAKET})


@dataclass(frozen=True)
class QPUNodeSpec:
    """One place where a circuit can run.

    ``node_id`` is unique in its account. ``max_qubits`` is the widest circuit it takes, 0 where only the vendor can
    say and has not been asked. ``credentials`` maps what the provider calls a secret to the secret's name, such as
    ``{"token": "ibm_lab"}``. ``metadata`` is for people (pricing, region); its keys with a meaning are the constants
    of this module.

    Raises:
        ValueError: an empty id, a negative width, or something that must not be printed where a name belongs.
    """

    node_id: str
    node_type: NodeType
    max_qubits: int
    tags: list[str] = field(default_factory=list[str])
    credentials: dict[str, Any] = field(default_factory=dict[str, Any])
    online: bool = True
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not self.node_id or self.max_qubits < 0:
            raise ValueError("a node needs an id, and a width of 0 qubits or more")
        for key, name in self.credentials.items():
            _check_name(f"credentials[{key!r}]", name)
        refuse_secrets(self.metadata)

    @property
    def device_id(self) -> DeviceId:
        """The device of its account that runs its circuits."""
        return DeviceId(str(self.metadata.get(DEVICE, self.node_id)))

    @property
    def device_type(self) -> str:
        """``QPU`` or ``SIMULATOR``: what validators are told."""
        return str(self.metadata.get(DEVICE_TYPE) or ("QPU" if self.node_type.is_qpu else "SIMULATOR"))

    @property
    def offline_reason(self) -> str | None:
        """Why it is offline; None while it is online."""
        return None if self.online else str(self.metadata.get(OFFLINE_REASON, "not said"))

    def brought_online(self) -> QPUNodeSpec:
        """The same node, online."""
        kept = {key: value for key, value in self.metadata.items() if key != OFFLINE_REASON}
        return replace(self, online=True, metadata=kept)

    def taken_offline(self, reason: str) -> QPUNodeSpec:
        """The same node, offline for ``reason``."""
        return replace(self, online=False, metadata=self.metadata | {OFFLINE_REASON: reason})


def refuse_secrets(arguments: Mapping[str, Any], *, where: str = "") -> None:
    """Let nothing pass that must not be printed: in a place for a credential its name, no password in a URL.

    Raises:
        ValueError: the text names the place and how to store the value by name; it does not show it.
    """
    for key, value in arguments.items():
        place = f"{where}{key}"
        if _CREDENTIAL.search(key) and value not in (None, ""):
            _check_name(place, value)
        _refuse_nested(place, value)


def _refuse_nested(place: str, value: object) -> None:
    if isinstance(value, Mapping):
        refuse_secrets(cast("Mapping[str, Any]", value), where=f"{place}.")
    elif isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            _refuse_nested(place, item)
    elif isinstance(value, str) and _USER_IN_URL.search(value):
        raise ValueError(f"{place}: a URL holds no user or password; store the password by name")


def _check_name(place: str, given: object) -> None:
    try:
        checked_name(given)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
