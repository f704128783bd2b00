"""Whether an account and its nodes can be used now, and what only its adapter knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.spec import DEVICE_TYPE, NOTE, NodeType, QPUNodeSpec
from qcompute.errors import ConfigError, QComputeError, Unavailable, VendorError
from qcompute.miner.providers.base import Device, ProviderAdapter

MAX_REASON: Final = 300


def check_account(provider: NodeProvider, adapter: ProviderAdapter) -> None:
    """Ask whether the account can be used; may block.

    Raises:
        VendorError: it cannot; the message is the reason.
        ConfigError: it cannot before a setting is changed, or something is installed or plugged in.
    """
    try:
        provider.check_health(adapter)
    except (ConfigError, VendorError):
        raise
    except QComputeError as error:
        raise Unavailable(error.message) from error
    except Exception as error:
        # Without its text, which may hold whatever the provider was talking to.
        raise Unavailable(f"{provider.display_name()}: its health check raised {type(error).__name__}") from error


def fitted(nodes: Sequence[QPUNodeSpec], adapter: ProviderAdapter) -> list[QPUNodeSpec]:
    """``nodes`` no wider than their devices."""
    fitting: list[QPUNodeSpec] = []
    for node in nodes:
        capability = adapter.get_capability(node.device_id)
        width = None if capability is None else capability.num_qubits
        if width is None or 0 < node.max_qubits <= width:
            fitting.append(node)
            continue
        if not node.max_qubits:
            fitting.append(replace(node, max_qubits=width))
            continue
        said = node.metadata.get(NOTE)
        note = f"{node.max_qubits} qubits asked for, {node.device_id} takes {width}"
        metadata = node.metadata | {NOTE: f"{note}; {said}" if said else note}
        fitting.append(replace(node, max_qubits=width, metadata=metadata))
    return fitting


def looked_up(provider: NodeProvider, nodes: Sequence[QPUNodeSpec], adapter: ProviderAdapter) -> list[QPUNodeSpec]:
    """``nodes`` as the adapter describes them now: widths, and which are offline and why. May ask the vendor.

    Of a vendor that alone knows which devices there are, each device is a node.
    """
    devices = {device.device_id: device for device in adapter.list_devices()}
    if not nodes and provider.default_type is not None:
        nodes = [_node_of(device, provider.default_type) for device in devices.values()]
    known = [node for node in nodes if node.device_id in devices]
    seen = {node.node_id: _as_available(node, adapter) for node in fitted(known, adapter)}
    return [seen.get(node.node_id) or _missing(node) for node in nodes]


def reason_of(error: QComputeError) -> str:
    """What stands beside an offline node."""
    return error.message[:MAX_REASON]


def _missing(node: QPUNodeSpec) -> QPUNodeSpec:
    return node if not node.online else node.taken_offline(f"the account has no device {node.device_id}")


def _as_available(node: QPUNodeSpec, adapter: ProviderAdapter) -> QPUNodeSpec:
    availability = adapter.get_availability(node.device_id)
    if availability is None or availability.is_available is not False:
        return node
    said = availability.status_msg or availability.availability or "not available"
    return node.taken_offline(said[:MAX_REASON])


def _node_of(device: Device, node_type: NodeType) -> QPUNodeSpec:
    return QPUNodeSpec(device.device_id, node_type, 0, metadata={DEVICE_TYPE: device.device_type})
