"""What the built-in providers have in common: they make the settings of an adapter out of the specification's words."""

from __future__ import annotations

import re
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator
from typing_extensions import override

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.execution import run_circuit
from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.spec import QPUNodeSpec, no_switch
from qcompute.connections.credentials import checked_name, secret_fields
from qcompute.errors import ConfigError, SandboxUnavailable, Unavailable, VendorError
from qcompute.faults import first_fault, meant
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import config_of, missing_of, open_adapter, settings_problem
from qcompute.units import Counts, ProviderKey

SecretName = Annotated[str, AfterValidator(checked_name)]
"""The name of a secret; a value that looks like the secret itself is refused."""


class NodeArguments(BaseModel):
    """What every built-in provider takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tags: tuple[str, ...] = ()
    """Added to the tags of every node."""

    _numbers = field_validator("*", mode="before")(no_switch)


A = TypeVar("A", bound=NodeArguments)


def is_width_said(arguments: Mapping[str, Any]) -> bool:
    """Whether the operator limits how wide circuits may be; a provider's default is what fits, and no limit."""
    return any(name.startswith("max_qubits") for name in arguments)


def checked(model: type[A], provider: str, given: Mapping[str, Any]) -> A:
    """``given`` as the arguments of a provider.

    Raises:
        ValueError: one is missing, wrong or unknown; it is named, its value is not shown.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise ValueError(f"{provider}: {first_fault(error)}{meant(error, model.model_fields)}") from None


class VendorProvider(NodeProvider, Generic[A]):
    """Nodes of an account whose adapter is in ``qcompute/miner/providers``: ``vendor`` is its key."""

    Arguments: ClassVar[type[BaseModel] | None]
    vendor: ClassVar[ProviderKey]
    account_words: ClassVar[Mapping[str, str]] = {}
    """Settings of the adapter, as a connection has them, that an argument says, and what that is called."""
    derived: ClassVar[frozenset[str]] = frozenset()
    """Those of them that an argument decides and cannot be read back from."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}
        self._adapter: ProviderAdapter | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @abstractmethod
    def nodes(self, arguments: A) -> list[QPUNodeSpec]:
        """The nodes, without their tags."""

    @abstractmethod
    def config(self, arguments: A) -> dict[str, Any]:
        """The adapter's settings, as in ``[providers.<vendor>]``.

        Raises:
            ConfigError: it can be seen already that the vendor will not take them.
        """

    @override
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
        arguments = self.arguments(kwargs)
        self._given = kwargs
        return [replace(node, tags=[*node.tags, *arguments.tags]) for node in self.nodes(arguments)]

    @override
    def open_adapter(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> ProviderAdapter:
        try:
            self._adapter = open_adapter(self.vendor, self.table(setup), directory=setup.directory)
        except ConfigError as error:
            raise ConfigError(f"cluster account {setup.name!r}: {self._as_written(error.message, setup)}") from None
        return self._adapter

    @override
    def check_setup(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> None:
        if (problem := missing_of(self.vendor)) is not None:
            raise ConfigError(f"cluster account {setup.name!r}: {problem}")
        self.check_settings(setup)

    def check_settings(self, setup: AccountSetup) -> None:
        """Whether the adapter takes the account's settings, and has the secrets they name.

        Raises:
            ConfigError: it does not; the message names the setting as it is written.
        """
        if (problem := settings_problem(self.vendor, self.table(setup))) is not None:
            raise ConfigError(f"cluster account {setup.name!r}: {self._as_written(problem, setup)}")

    def table(self, setup: AccountSetup) -> dict[str, Any]:
        """The adapter's settings: what follows from the account's arguments, and its own over it."""
        return self.config(self.arguments(setup.arguments)) | dict(setup.settings)

    def _as_written(self, text: str, setup: AccountSetup) -> str:
        """``text`` with each setting of the adapter called what stands in the account's table."""

        def name(found: re.Match[str]) -> str:
            setting = found[1]
            said = None if setting in setup.settings else self.setting_words().get(setting)
            return f"settings.{setting}" if said is None else said

        return re.sub(rf"\bproviders\.{self.vendor}\.([a-z_0-9]+)", name, text)

    @override
    def check_health(self, adapter: ProviderAdapter) -> None:
        devices = adapter.list_devices()
        if not devices:
            raise Unavailable(f"{self.display_name()}: the account has no device")
        said = ""
        for device in devices:
            availability = adapter.get_availability(device.device_id)
            if availability is None or availability.is_available is not False:
                return
            said = said or availability.status_msg or ""
        raise Unavailable(f"{self.display_name()}: no device is available" + (f": {said}" if said else ""))

    @override
    def health_check(self) -> bool:
        try:
            self.check_health(self._opened())
        except (VendorError, ConfigError, SandboxUnavailable):
            return False
        return True

    @override
    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> Counts:
        """Counts of the adapter's own job on the node's device: the daemon's road, without its ledger and budget.

        Raises:
            CannotRun: the node cannot run it.
            VendorError: it did not complete; nothing else runs in its place.
        """
        width = node_spec.max_qubits if is_width_said(self._given) else 0
        return run_circuit(self._opened(), node_spec.device_id, circuit, shots, max_qubits=width or None)

    def close(self) -> None:
        """End what was opened for a provider used outside a cluster; a cluster closes its own adapters."""
        if self._folder is not None and self._adapter is not None:
            self._adapter.close()
            self._folder.cleanup()
            self._folder = self._adapter = None

    @classmethod
    def credential_words(cls) -> dict[str, str]:
        """The adapter's settings that are secrets, each with the argument for it, or its own name without one."""
        model = config_of(cls.vendor)
        return {} if model is None else {name: cls.account_words.get(name, name) for name in secret_fields(model)}

    @classmethod
    def setting_words(cls) -> Mapping[str, str]:
        """What the adapter's settings are called among the arguments; the others stand in ``settings``."""
        return cls.account_words

    @classmethod
    def arguments_of(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a connection's settings are as arguments; those without one are left out."""
        words = cls.account_words
        return {words[key]: value for key, value in settings.items() if key in words.keys() - cls.derived}

    @classmethod
    def arguments(cls, given: Mapping[str, Any]) -> A:
        """``given``, checked.

        Raises:
            ValueError: see `checked`.
        """
        return checked(cast("type[A]", cls.Arguments), cls.display_name(), given)

    def _opened(self) -> ProviderAdapter:
        """The account's adapter; one used outside a cluster gets its own, with files that end with this process."""
        if self._adapter is None:
            folder = tempfile.TemporaryDirectory(prefix="qcompute-account-")
            setup = AccountSetup(self.vendor, Path(folder.name), arguments=self._given)
            try:
                self._adapter = self.open_adapter([], setup)
            except BaseException:
                folder.cleanup()
                raise
            self._folder = folder
        return self._adapter
