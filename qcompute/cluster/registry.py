"""Provider classes by key: the built-in ones, those a program registers, and any by its path."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import reduce
from typing import Any, ClassVar, Final, TypeGuard, cast

from qcompute.cluster.builtin import BUILT_IN
from qcompute.cluster.own_code import fault_of
from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.spec import QPUNodeSpec

_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class NodeProviderRegistry:
    """Node providers by key. A key may also be a path, ``my_lab.nodes:MyProvider``."""

    _registered: ClassVar[dict[str, type[NodeProvider]]] = {}

    @classmethod
    # The specification calls the class `cls`, so what else is called that must not be.
    def register(registry, /, name: str, cls: type) -> None:  # noqa: N804 # pyright: ignore[reportSelfClsParameterName]
        """Make ``name`` mean the provider class ``cls``; the same class a second time changes nothing.

        Raises:
            ValueError: the name is another provider's, or cannot be one.
            TypeError: it is no class of a provider.
        """
        if not (inspect.isclass(cls) and issubclass(cls, NodeProvider)):
            raise TypeError(f"{name!r} must be given a subclass of NodeProvider, not {_called(cls)}")
        if not _KEY.fullmatch(name):
            raise ValueError(f"a provider is named with small letters, digits and _, not {name!r}")
        if registry._known().get(name, cls) is not cls:
            raise ValueError(f"a provider named {name!r} exists already")
        registry._registered[name] = cls

    @classmethod
    def get(cls, name: str) -> type[NodeProvider]:
        """The provider class called ``name``.

        Raises:
            KeyError: there is none; the known keys are named.
        """
        if ":" in name:
            return _of_path(name)
        try:
            return cls._known()[name]
        except KeyError:
            raise KeyError(f"no node provider {name!r}; known are {', '.join(sorted(cls._known()))}") from None

    @classmethod
    def list(cls) -> dict[str, str]:
        """What each provider is called for people, by key."""
        return {name: provider.display_name() for name, provider in sorted(cls._known().items())}

    @classmethod
    def instantiate(cls, name: str, **kwargs: Any) -> tuple[NodeProvider, list[QPUNodeSpec]]:  # noqa: ANN401 - each provider's own
        """A new provider and the nodes it builds.

        Raises:
            KeyError: there is no such provider.
            ValueError: an argument is wrong, there is no node, or two of one id, or what was built is none.
        """
        provider = cls.get(name)()
        nodes: object = provider.build_nodes(**kwargs)
        if not _are_nodes(nodes):
            raise ValueError(f"{name}: build_nodes must return a list of QPUNodeSpec")
        ids = [node.node_id for node in nodes]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{name}: two nodes have the same id")
        if not ids and provider.default_type is None:
            raise ValueError(f"{name}: build_nodes gave no node")
        return provider, nodes

    @classmethod
    def _known(cls) -> dict[str, type[NodeProvider]]:
        return {**BUILT_IN, **cls._registered}


def _are_nodes(built: object) -> TypeGuard[list[QPUNodeSpec]]:
    return isinstance(built, list) and all(isinstance(one, QPUNodeSpec) for one in cast("list[object]", built))


def _called(given: Any) -> str:  # noqa: ANN401 - whatever was given for a class
    return getattr(given, "__name__", type(given).__name__)


def _of_path(path: str) -> type[NodeProvider]:
    module, _, name = path.partition(":")
    try:
        imported = cast("Any", importlib.import_module(module))
    except Exception as error:
        raise KeyError(f"no node provider {path!r}: {fault_of(error)}") from error
    try:
        found = reduce(getattr, name.split("."), imported)
    except AttributeError as error:
        raise KeyError(f"no node provider {path!r}: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, NodeProvider)):
        raise KeyError(f"{path!r} is no subclass of NodeProvider")
    return found
