"""Looks at connections without spending: a line for each thing, with the fix where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from qcompute.connections.credentials import trying
from qcompute.connections.definitions import Definition
from qcompute.connections.findings import Finding, Grade, Subject, failure, good
from qcompute.errors import AuthFailed, ConfigError, QComputeError
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import open_adapter

_DEVICE_LISTS: Final = ("devices", "backends")
"""What adapters call the setting that names devices."""


def checked(
    name: str, definition: Definition, folder: Path, *, values: Mapping[str, str] | None = None, is_home: bool = False
) -> list[Finding]:
    """What is found at a connection, or with ``is_home`` at the provider of the settings; see `found_at`."""
    opened = partial(open_home if is_home else open_connection, name, definition, folder)
    return found_at(opened, definition.provider, definition.settings, values=values)


def found_at(
    opened: Callable[[], ProviderAdapter],
    provider: str,
    settings: Mapping[str, Any],
    *,
    values: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What is found at the account that ``opened`` opens; may block for minutes, where a vendor does not answer.

    ``values`` are credentials to try in place of those that are kept.
    """
    try:
        with trying(values or {}):
            adapter = opened()
    except ConfigError as error:
        return [failure(error)]
    findings = [good(Subject.SETTINGS, f"{provider} takes them")]
    try:
        findings += looked_at(adapter, settings)
    finally:
        adapter.close()
    return findings


def looked_at(adapter: ProviderAdapter, settings: Mapping[str, Any] | None = None) -> list[Finding]:
    """What an open adapter says of its account, and what it raised, as findings.

    ``settings`` are the provider's table: devices it names that the vendor does not have any more are told too.
    """
    findings = list(_looked_at(adapter))
    return findings if not is_usable(findings) else [*findings, *_gone(adapter, settings or {})]


def open_connection(name: str, definition: Definition, folder: Path) -> ProviderAdapter:
    """The adapter of a connection; its own files, if it has any, lie in a folder of the connection's name.

    Raises:
        ConfigError: the provider, a setting or a credential is not as it should be; names the connection.
    """
    try:
        return open_adapter(definition.provider, definition.settings, directory=folder / name)
    except ConfigError as error:
        raise ConfigError(f"connection {name}: {error.message}") from None


def open_home(name: str, definition: Definition, folder: Path) -> ProviderAdapter:
    """The adapter of the settings' own provider, whose files lie in the miner's folder itself.

    Raises:
        ConfigError: as `open_adapter`.
    """
    del name  # that of its provider
    return open_adapter(definition.provider, definition.settings, directory=folder)


def is_usable(findings: list[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(finding.grade is not Grade.FAILED for finding in findings)


def _looked_at(adapter: ProviderAdapter) -> Iterator[Finding]:
    is_known = False
    try:
        for finding in adapter.check_connection():
            is_known = is_known or (finding.subject, finding.grade) == (Subject.IDENTITY, Grade.OK)
            yield finding
    except AuthFailed as error:
        yield _not_here(error) if is_known else failure(error)
    except QComputeError as error:
        yield failure(error)
    except Exception as error:  # noqa: BLE001 - an adapter may raise anything
        text = f"the adapter raised {type(error).__name__}"
        yield Finding(Subject.REACHABLE, Grade.FAILED, text, "report it to the adapter's author")


def _gone(adapter: ProviderAdapter, settings: Mapping[str, Any]) -> list[Finding]:
    """One for each device that the settings name and the vendor has not: retired, or misspelt."""
    wanted = [(setting, str(name)) for setting in _DEVICE_LISTS for name in _listed(settings.get(setting))]
    if not wanted:
        return []
    offered = {device.device_id for device in adapter.list_devices()}
    return [
        Finding(
            Subject.DEVICES,
            Grade.FAILED,
            f"{name} is not there: it was retired, or its name is misspelt",
            f"take it out of the provider's setting {setting}, or write one of {', '.join(sorted(offered))}",
        )
        for setting, name in wanted
        if name not in offered
    ]


def _listed(names: object) -> Sequence[object]:
    return cast("Sequence[object]", names) if isinstance(names, (list, tuple)) else ()


def _not_here(error: AuthFailed) -> Finding:
    text = f"the key is right and is not let in there: {error.message}"
    return Finding(Subject.IDENTITY, Grade.FAILED, text, "correct the region, or give the key the permissions it needs")
