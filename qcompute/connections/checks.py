"""Looks at connections without spending: a line for each thing, with the fix where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from qcompute.connections.credentials import trying
from qcompute.connections.definitions import Definition
from qcompute.connections.findings import Finding, Grade, Subject, failure, good
from qcompute.errors import AuthFailed, ConfigError, QComputeError
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import open_adapter


def checked(
    name: str, definition: Definition, folder: Path, *, values: Mapping[str, str] | None = None
) -> list[Finding]:
    """What is found at a connection; may block for minutes, where a vendor does not answer.

    ``values`` are credentials to try in place of those that are kept.
    """
    try:
        with trying(values or {}):
            adapter = open_connection(name, definition, folder)
    except ConfigError as error:
        return [failure(error)]
    findings = [good(Subject.SETTINGS, f"{definition.provider} takes them")]
    try:
        findings += looked_at(adapter)
    finally:
        adapter.close()
    return findings


def looked_at(adapter: ProviderAdapter) -> list[Finding]:
    """What an open adapter says of its account, and what it raised, as findings."""
    return list(_looked_at(adapter))


def open_connection(name: str, definition: Definition, folder: Path) -> ProviderAdapter:
    """The adapter of a connection; its own files, if it has any, lie in a folder of the connection's name.

    Raises:
        ConfigError: the provider, a setting or a credential is not as it should be; names the connection.
    """
    try:
        return open_adapter(definition.provider, definition.settings, directory=folder / name)
    except ConfigError as error:
        raise ConfigError(f"connection {name}: {error.message}") from None


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


def _not_here(error: AuthFailed) -> Finding:
    text = f"the key is right and is not let in there: {error.message}"
    return Finding(Subject.IDENTITY, Grade.FAILED, text, "correct the region, or give the key the permissions it needs")
