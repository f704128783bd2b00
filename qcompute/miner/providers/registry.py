"""Finds adapters without importing any of them: ``PROVIDER=<key>``.

Three places: the files of this folder (file name = key), packages that announce themselves in the entry-point group
``qcompute.providers``, and `register`. A key may also be a path, ``my_package.my_module:MyAdapter``, so that one file
on the operator's ``PYTHONPATH`` is enough. Only the adapter that is asked for is imported. Two providers of one name:
neither is used and both are named, so that a stray package can never take over a vendor's name and with it its key.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from qcompute.connections.credentials import secret_fields
from qcompute.errors import ConfigError
from qcompute.faults import first_fault, meant, unset
from qcompute.miner.providers.base import (
    NINE_METHODS,
    AvailabilityStatus,
    BaseExecutionStatus,
    Capability,
    Device,
    JobHandle,
    JobReceipt,
    ProviderAdapter,
)
from qcompute.units import ProviderKey

GROUP: Final = "qcompute.providers"
_NOT_PROVIDERS: Final = frozenset({"base", "registry"})

Factory = Callable[[], object]

_registered: dict[str, Factory] = {}

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """One provider: where it comes from, and why it cannot run here (None when it can)."""

    key: ProviderKey
    origin: str
    extra: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Table:
    """What an adapter is configured with: the operator's table, and where its own files may lie."""

    given: Mapping[str, Any]
    directory: Path | None


def register(key: str, factory: Factory) -> None:
    """Make ``PROVIDER=<key>`` call ``factory`` (no arguments) for its adapter.

    Raises:
        ConfigError: the key is taken.
    """
    if key in _registered or key in _folder() or key in _announced():
        raise ConfigError(f"a provider named {key!r} exists already")
    _registered[key] = factory


def keys() -> list[ProviderKey]:
    """All keys, sorted, without importing anything."""
    return sorted(ProviderKey(key) for key in {*_folder(), *_announced(), *_registered})


def available() -> list[ProviderInfo]:
    """Every provider with the reason it cannot run here. Imports adapters, never a vendor's SDK."""
    return [_info(key) for key in keys()]


def open_adapter(
    key: str, config: Mapping[str, Any] | None = None, *, directory: Path | None = None
) -> ProviderAdapter:
    """The adapter ``PROVIDER=<key>`` names, configured; only this one is imported.

    ``config`` is the ``[providers.<key>]`` table; an adapter whose ``Config`` has a ``spool`` and is not told one gets
    a folder of its own in ``directory``, so that two miners on one machine do not share it. Call it on the main
    thread: some SDKs must be imported there.

    Raises:
        ConfigError: no such provider, something is not installed, its own import is broken, or its settings are wrong.
    """
    table = _Table(config or {}, directory)
    if ":" in key:
        return _made(key, _from_path(key), table)
    _refuse_twins(key)
    if key in _registered:
        return _made(key, _registered[key], table)
    if (announced := _announced().get(key)) is not None:
        return _made(key, _loaded(key, announced), table)
    if key in _folder():
        adapter_class = _adapter_class(key, _imported(key))
        _check_requirements(key, adapter_class)
        return _made(key, adapter_class, table)
    near = difflib.get_close_matches(key, keys(), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ConfigError(f"PROVIDER={key!r} is not a provider{hint}. Known: {', '.join(keys())}")


def missing_of(key: str) -> str | None:
    """What an adapter needs and is not installed, and how it is; None when nothing is."""
    return _info(ProviderKey(key)).problem if key in keys() else None


def settings_problem(key: str, config: Mapping[str, Any]) -> str | None:
    """What is wrong with an adapter's ``[providers.<key>]`` table, or with the secrets it names; None when nothing is.

    Imports the adapter and opens nothing. One that cannot be imported is `available`'s to tell of.
    """
    if key in _registered or key not in _folder():
        return None
    try:
        factory = _adapter_class(key, _imported(key))
        model: type[BaseModel] | None = getattr(factory, "Config", None)
        if model is not None:
            factory.check_settings(_config_of(key, model, dict(config)))
    except ConfigError as error:
        return error.message
    return None


def config_of(key: str) -> type[BaseModel] | None:
    """What the ``[providers.<key>]`` table is checked with; None: the provider has no settings, or does not say.

    Raises:
        ConfigError: no such provider, or it cannot be imported.
    """
    if ":" in key:
        factory = _from_path(key)
    elif (announced := _announced().get(key)) is not None:
        factory = _loaded(key, announced)
    elif key in _folder():
        factory = _adapter_class(key, _imported(key))
    elif key in _registered:
        factory = _registered[key]
    else:
        raise ConfigError(f"{key!r} is not a provider. Known: {', '.join(keys())}")
    return getattr(factory, "Config", None)


def _folder() -> dict[str, Path]:
    files = Path(__file__).parent.glob("[!_]*.py")
    return {file.stem: file for file in files if file.stem not in _NOT_PROVIDERS}


def _announced() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _refuse_twins(key: str) -> None:
    origins = [entry.value for entry in entry_points(group=GROUP) if entry.name == key]
    origins += ["this package's own"] if key in _folder() else []
    origins += ["registered in this process"] if key in _registered else []
    if len(origins) > 1:
        raise ConfigError(f"{len(origins)} providers are named {key!r} ({', '.join(origins)}); none is used")


def _imported(key: str) -> ModuleType:
    name = f"{__package__}.{key}"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"provider {key!r} is broken: its module cannot be imported ({error})") from error


def _loaded(key: str, entry: EntryPoint) -> Callable[..., object]:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"provider {key!r} of {entry.value} cannot be imported: {error}") from error


def _from_path(path: str) -> Callable[..., object]:
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigError(f"PROVIDER={path!r}: {module_name} cannot be imported: {error}") from error
    except AttributeError:
        raise ConfigError(f"PROVIDER={path!r}: {module_name} has no {attribute}") from None


def _adapter_class(key: str, module: ModuleType) -> type[ProviderAdapter]:
    found = [
        item
        for item in vars(module).values()
        if inspect.isclass(item)
        and issubclass(item, ProviderAdapter)
        and item is not ProviderAdapter
        and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ConfigError(f"provider {key!r} must define exactly one ProviderAdapter, it defines {len(found)}")
    return found[0]


def _missing(adapter_class: type[ProviderAdapter]) -> list[str]:
    return [name for name in adapter_class.requires if not _is_there(name)]


def _is_there(module: str) -> bool:
    """Whether it could be imported. Of a dotted name the part before the dot is, so that must be a mere namespace."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _check_requirements(key: str, adapter_class: type[ProviderAdapter]) -> None:
    if missing := _missing(adapter_class):
        install = f"pip install 'qcompute[{adapter_class.extra}]'"
        raise ConfigError(f"provider {key!r} needs {', '.join(missing)}, which is not installed: `{install}`")


def _made(key: str, factory: Callable[..., object], table: _Table) -> ProviderAdapter:
    model: type[BaseModel] | None = getattr(factory, "Config", None)
    given = dict(table.given)
    if model is None:
        if given:
            raise ConfigError(f"provider {key!r} has no settings, but [providers.{key}] has {', '.join(given)}")
        return as_adapter(factory())
    if "spool" in model.model_fields and table.directory is not None:
        given.setdefault("spool", table.directory / key)
    return as_adapter(factory(_config_of(key, model, given)))


def _config_of(key: str, model: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(_with_lists(model, given))
    except ValidationError as error:
        if left := unset(error):
            raise ConfigError(f"{_to_set(key, model, left)} must be set") from None
        fault = first_fault(error, f"providers.{key}")
        raise ConfigError(f"{fault}{meant(error, model.model_fields)}") from None


def _to_set(key: str, model: type[BaseModel], names: Sequence[str]) -> str:
    secrets = secret_fields(model)
    where = [f"providers.{key}.{name}{' (the name of a secret)' if name in secrets else ''}" for name in names]
    return " and ".join(filter(None, (", ".join(where[:-1]), where[-1])))


def _with_lists(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the lists that flags and variables bring as text, comma by comma, as lists."""
    lists = {name for name, info in model.model_fields.items() if get_origin(info.annotation) in (list, tuple)}
    return {
        name: [item.strip() for item in value.split(",") if item.strip()]
        if name in lists and isinstance(value, str)
        else value
        for name, value in given.items()
    }


def _info(key: ProviderKey) -> ProviderInfo:
    if key in _registered:
        return ProviderInfo(key, "registered", None, None)
    if key not in _folder():
        return ProviderInfo(key, _announced()[key].value, None, None)
    try:
        adapter_class = _adapter_class(key, _imported(key))
        _refuse_twins(key)
    except ConfigError as error:
        return ProviderInfo(key, "built in", None, error.message)
    missing = _missing(adapter_class)
    problem = f"not installed: {', '.join(missing)}; pip install 'qcompute[{adapter_class.extra}]'" if missing else None
    return ProviderInfo(key, "built in", adapter_class.extra, problem)


@dataclass(slots=True)
class _Nine(ProviderAdapter):
    """Gives an adapter that has only the nine methods the defaults of the others."""

    inner: Any = field(repr=False)

    def list_devices(self) -> list[Device]:
        return [_as(Device, device) for device in self.inner.list_devices()]

    def list_capabilities(self) -> list[Capability]:
        return [_as(Capability, capability) for capability in self.inner.list_capabilities()]

    def get_capability(self, device_id: str | None = None) -> Capability | None:
        answer = self.inner.get_capability(device_id)
        return None if answer is None else _as(Capability, answer)

    def submit(self, circuit_data: str, device_id: str | None = None, shots: int | None = None) -> JobHandle:
        return _as(JobHandle, self.inner.submit(circuit_data, device_id=device_id, shots=shots))

    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return _as(BaseExecutionStatus, self.inner.poll(handle))

    def cancel(self, handle: JobHandle) -> None:
        self.inner.cancel(handle)

    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        return _as(JobReceipt, self.inner.get_job_receipt(handle))

    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        answer = self.inner.get_availability(device_id)
        return None if answer is None else _as(AvailabilityStatus, answer)

    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        return self.inner.get_pricing(device_id)


def _as(kind: type[Record], answer: object) -> Record:
    """The adapter's own record, or a look-alike with the same fields, as ours."""
    if isinstance(answer, kind):
        return answer
    return kind.model_validate(answer, from_attributes=True)


def as_adapter(adapter: object) -> ProviderAdapter:
    """``adapter`` itself when it inherits from `ProviderAdapter`, else wrapped so that the nine methods are enough.

    Raises:
        ConfigError: one of the nine methods is missing; all missing ones are named.
    """
    if isinstance(adapter, ProviderAdapter):
        return adapter
    missing = [name for name in NINE_METHODS if not callable(getattr(adapter, name, None))]
    if missing:
        raise ConfigError(f"{type(adapter).__name__} is not a provider adapter: it lacks {', '.join(missing)}")
    return _Nine(adapter)
