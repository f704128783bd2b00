"""Every setting there is, found by walking the models: its name in each source, its kind, its documentation.

The models are the only list of settings. Flags, environment names, ``--help`` and the reference page follow from
them, so none of these can forget a setting or keep one that is gone.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Path = tuple[str, ...]
"""Where a setting is in the settings object: ``("axon", "port")``."""

ENVIRONMENT_PREFIX: Final = "QCOMPUTE_"
ENVIRONMENT_SEPARATOR: Final = "__"


class Kind(StrEnum):
    """How text from a flag or the environment is read."""

    SWITCH = "switch"
    """A boolean: a flag needs no value."""
    LIST = "list"
    """Several values, separated by commas, or a TOML array."""
    TABLE = "table"
    """Named values: one flag or variable each."""
    SCALAR = "scalar"
    """One value, read by its type."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: the field of ``model`` that is named last in ``path``."""

    path: Path
    annotation: Any
    info: FieldInfo
    model: type[BaseModel]

    @property
    def documentation(self) -> str:
        """The docstring under the field; empty when the model has none. Read only by what shows it: it takes 0.1 s."""
        return _documentation_of(self.model).get(self.path[-1], "")

    @property
    def name(self) -> str:
        """``axon.port``: how messages and the TOML file call it."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """``--axon.port``."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """``QCOMPUTE_AXON__PORT``."""
        return ENVIRONMENT_PREFIX + ENVIRONMENT_SEPARATOR.join(self.path).upper()

    @property
    def kind(self) -> Kind:
        """How its text is read."""
        return _kind_of(self.annotation)

    @property
    def may_be_none(self) -> bool:
        """Whether empty text means "not set"."""
        return type(None) in typing.get_args(self.annotation)

    @property
    def type_text(self) -> str:
        """Its type as shown to people."""
        return _type_text(self.annotation)


def settings_of(model: type[BaseModel], prefix: Path = ()) -> Iterator[Setting]:
    """All settings of a model and of the sections in it, in declared order."""
    for name, info in model.model_fields.items():
        section = section_model(info.annotation)
        if section is not None:
            yield from settings_of(section, (*prefix, name))
        else:
            yield Setting((*prefix, name), info.annotation, info, model)


def section_model(annotation: object) -> type[BaseModel] | None:
    """The model of a section; None when the annotation is a plain value."""
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


@cache
def _documentation_of(model: type[BaseModel]) -> dict[str, str]:
    """The string under each field of a model, as one line.

    Read from the source text: Python keeps no docstring of an attribute.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _strings_under_fields(base)
    return found


def _strings_under_fields(model: type[BaseModel]) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    if not isinstance(tree, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


def _kind_of(annotation: object) -> Kind:
    plain = _without_none(annotation)
    origin = typing.get_origin(plain) or plain
    if plain is bool:
        return Kind.SWITCH
    if origin in (list, tuple, set, frozenset):
        return Kind.LIST
    if inspect.isclass(origin) and issubclass(origin, typing.Mapping):
        return Kind.TABLE
    return Kind.SCALAR


def _without_none(annotation: object) -> object:
    if typing.get_origin(annotation) is typing.Annotated:
        return _without_none(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(annotation) if a is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _type_text(annotation: object) -> str:
    plain = _without_none(annotation)
    if typing.get_origin(plain) is typing.Literal:
        return " | ".join(str(word) for word in typing.get_args(plain))
    if inspect.isclass(plain) and issubclass(plain, Enum):
        return " | ".join(str(member.value) for member in plain)
    match _kind_of(plain):
        case Kind.SWITCH:
            return "true | false"
        case Kind.LIST:
            return "list"
        case Kind.TABLE:
            return "table"
        case Kind.SCALAR:
            return {"int": "integer", "float": "number", "Decimal": "number", "Path": "path"}.get(
                getattr(plain, "__name__", ""), "text"
            )
