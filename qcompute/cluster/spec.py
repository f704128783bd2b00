"""Nodes as the cluster specification names them (`NodeType`, `QPUNodeSpec`): plain data, safe to print.

The names and fields are those of softQCOS' Provider API. Different here: ``credentials`` holds the *names* of secrets
and nothing else, because specs end up in reports and logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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

_CREDENTIAL: Final = re.compile(
    r"(^|_)(token|secret|passw(or)?d|passphrase|pwd|api_?key|key|credentials?|auth|authorization|bearer|pat|sas"
    r"|connection_string)$"
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_USER_IN_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*@", re.IGNORECASE)
_QUERY: Final = re.compile(r"://[^\s?]*\?(?P<query>[^\s#]+)")
_SIGNED: Final = frozenset({"sig", "signature", "code"})
"""Words of a URL's query that let in whoever has the URL."""


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
        ValueError: an empty id, a width that is no number of qubits, a type there is not, tags that are no list of
            words, or something that must not be printed where a name belongs.
    """

    node_id: str
    node_type: NodeType
    max_qubits: int
    tags: list[str] = field(default_factory=list[str])
    credentials: dict[str, Any] = field(default_factory=dict[str, Any])
    online: bool = True
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not (_is_a(str, self.node_id) and self.node_id and _is_a(int, self.max_qubits) and self.max_qubits >= 0):
            raise ValueError("a node needs an id, which is a text, and a width of 0 qubits or more")
        try:
            object.__setattr__(self, "node_type", NodeType(self.node_type))
        except ValueError:
            types = ", ".join(NodeType)
            raise ValueError(f"node {self.node_id!r}: {self.node_type!r} is no node type; there are {types}") from None
        if _is_a(str, self.tags) or not all(_is_a(str, tag) for tag in self.tags):
            raise ValueError(f"node {self.node_id!r}: tags are a list of words")
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


def _is_a(kind: type, value: object) -> bool:
    """Whether a field has its type: an operator's module is checked by nobody else. A truth value is no number."""
    return isinstance(value, kind) and not isinstance(value, bool)


def no_switch(given: object) -> object:
    """For settings none of which is a switch: pydantic takes ``n_nodes = true`` for 1.

    Raises:
        ValueError: it is a truth value.
    """
    if isinstance(given, bool):
        raise ValueError("this is no switch: true and false say nothing here")  # noqa: TRY004 - pydantic reports ValueErrors
    return given


def refuse_secrets(arguments: Mapping[str, Any], *, where: str = "") -> None:
    """Let nothing pass that must not be printed: in a place for a credential its name, no password in a URL.

    ``auth = true`` says whether one is used, and holds none.

    Raises:
        ValueError: the text names the place and how to store the value by name; it does not show it.
    """
    for key, value in arguments.items():
        place = f"{where}{key}"
        if _is_credential(key):
            for one in _leaves(value):
                _check_name(place, one)
        _refuse_nested(place, value)


def _is_credential(key: str) -> bool:
    """Whether what is called so is one, however it is written: ``api_key``, ``API-KEY``, ``apiKey``."""
    return _CREDENTIAL.search(_HUMP.sub("_", key).replace("-", "_").lower()) is not None


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        value = list(cast("Mapping[str, object]", value).values())
    if isinstance(value, list | tuple):
        for one in cast("list[object]", value):
            yield from _leaves(one)
    elif value not in (None, "") and not isinstance(value, bool):
        yield value


def _refuse_nested(place: str, value: object) -> None:
    if isinstance(value, Mapping):
        refuse_secrets(cast("Mapping[str, Any]", value), where=f"{place}.")
    elif isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            _refuse_nested(place, item)
    elif isinstance(value, str) and _USER_IN_URL.search(value):
        raise ValueError(f"{place}: a URL holds no user or password; store the password by name")
    elif isinstance(value, str) and (found := _QUERY.search(value)) is not None:
        words = [part.partition("=")[0] for part in found["query"].split("&")]
        if any(_is_credential(word) or word.lower() in _SIGNED for word in words):
            raise ValueError(f"{place}: a URL's query holds no secret; store it by name")


def _check_name(place: str, given: object) -> None:
    try:
        checked_name(given)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
