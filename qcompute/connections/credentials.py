"""Credentials by name. Settings hold the name, the value comes from the environment or a file, nobody prints it.

The secret ``ionq`` is looked for in the places `look_in` was given (the operating system's keyring, the encrypted
file: `qcompute.connections.store`), and then it is the variable ``QCOMPUTE_SECRET_IONQ``, or the content of the file
that ``QCOMPUTE_SECRET_IONQ_FILE`` names, which nobody but its owner may read (mode 0600). There is no other place: no
vendor's own credential file, no instance metadata, no browser.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Protocol, cast, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from qcompute.errors import ConfigError

PREFIX: Final = "QCOMPUTE_SECRET_"
FILE_SUFFIX: Final = "_FILE"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CHANGES: Final = re.compile(r"[a-z](?=[0-9])|[0-9](?=[a-z])")
_LONGEST_WORD: Final = 24
_VALUE_LENGTH, _VALUE_CHANGES = 16, 4
"""So long, and so often from letter to digit and back, is a key in small hexadecimal digits, and no name."""
_MAX_CHARACTERS: Final = 64 << 10


class Place(Protocol):
    """Somewhere credentials are kept, beside the environment."""

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    def get(self, name: str) -> str | None:
        """The value; None when it is not there. May block. Raises `ConfigError` when the place cannot be read."""
        ...


_places: list[Place] = []
_tried: ContextVar[Mapping[str, str] | None] = ContextVar("tried credentials", default=None)


def look_in(places: Sequence[Place]) -> None:
    """Look for secrets in these places, in this order, before the environment; in place of those set before."""
    _places[:] = places


@contextmanager
def trying(values: Mapping[str, str]) -> Generator[None]:
    """In here, and in this thread or task alone, the secrets of these names have these values."""
    token = _tried.set(dict(values))
    try:
        yield
    finally:
        _tried.reset(token)


class Secret:
    """A named secret. Printing it shows the name; `reveal` gives the value.

    As a field of a provider's ``Config`` it is written as the name and looked up when the provider is opened.
    """

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """The value; hand it to the vendor's client and to nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        del source, handler
        return core_schema.no_info_plain_validator_function(
            _validated, serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.name)
        )


def _validated(given: object) -> Secret:
    if isinstance(given, Secret):
        return given
    if not isinstance(given, str):
        raise ValueError("a secret is given by its name")  # noqa: TRY004 - pydantic reports ValueErrors
    try:
        return named(given)
    except ConfigError as error:
        raise ValueError(error.message) from None


def secret_fields(model: type[BaseModel]) -> dict[str, bool]:
    """The settings of a provider that are secrets, and whether it cannot do without."""
    return {name: info.is_required() for name, info in model.model_fields.items() if _is_secret(info.annotation)}


def secrets_in(model: type[BaseModel], table: Mapping[str, Any]) -> dict[str, str]:
    """The names of all secrets that a provider's settings mean, by setting; ``nodes.left.token`` is one further in."""
    found: dict[str, str] = {}
    for field, info in model.model_fields.items():
        found |= _secrets_at(field, info.annotation, table.get(field, info.default))
    return found


def _secrets_at(place: str, annotation: Any, value: object) -> dict[str, str]:  # noqa: ANN401 - whatever stands there
    if _is_secret(annotation):
        return {place: value} if isinstance(value, str) else {}
    kinds = get_args(annotation)
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return {f"{place}.{field}": name for field, name in secrets_in(annotation, table).items()}
        inner = kinds[-1:] if get_origin(annotation) is dict else ()
        items = [(one, f"{place}.{key}", item) for one in inner for key, item in table.items()]
        items += [(one, place, table) for one in kinds if not inner]
    elif isinstance(value, (list, tuple)):
        items = [
            (one, f"{place}.{at}", item) for one in kinds[:1] for at, item in enumerate(cast("list[object]", value))
        ]
    else:
        return {}
    found: dict[str, str] = {}
    for kind, where, item in items:
        found |= _secrets_at(where, kind, item)
    return found


def _is_secret(annotation: object) -> bool:
    return annotation is Secret or Secret in get_args(annotation)


def checked_name(given: object) -> str:
    """``given`` when it can be a secret's name, and does not look like the secret itself.

    Raises:
        ValueError: it cannot; the text says how a value is stored by name, and does not show what was given.
    """
    if isinstance(given, str) and _NAME.fullmatch(given) and not _looks_like_a_value(given):
        return given
    raise ValueError(_NO_NAME)


def variable_of(name: str) -> str:
    """The variable the secret ``name`` is read from."""
    return PREFIX + name.upper()


def named(name: str) -> Secret:
    """The secret ``name``, from the first place that has it.

    Raises:
        ConfigError: see `resolve`; also when a place that has it cannot be read: another value is never taken instead.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(_NO_NAME)
    if (value := (_tried.get() or {}).get(name)) is not None:
        return Secret(name, value)
    for place in _places:
        if (value := place.get(name)) is not None:
            return Secret(name, value)
    try:
        return resolve(name, os.environ)
    except ConfigError as error:
        if not _places or is_in_environment(name, os.environ) or _looks_like_a_value(name):
            raise
        places = ", ".join(place.label for place in _places)
        raise ConfigError(
            f"the secret {name!r} is not set: store it with `qcompute connections rotate`, or set {variable_of(name)}, "
            f"or {variable_of(name)}{FILE_SUFFIX} to a file that holds it; looked for in {places}"
        ) from error


def environment_value(name: str) -> str | None:
    """The value this process's environment gives the secret; None when it gives none.

    Raises:
        ConfigError: its file cannot be used.
    """
    return resolve(name, os.environ).reveal() if is_in_environment(name, os.environ) else None


def is_in_environment(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable gives the secret or names its file."""
    variable = variable_of(name)
    return any(environ.get(one, "").strip() for one in (variable, variable + FILE_SUFFIX))


def checked_value(text: str) -> str:
    """A secret's value as it is stored: without the spaces and the line break around it.

    Raises:
        ConfigError: it is empty, or too long to be a secret.
    """
    value = text.strip()
    if not value:
        raise ConfigError("the value is empty; nothing was stored")
    if len(value) > _MAX_CHARACTERS:
        raise ConfigError(f"the value has more than {_MAX_CHARACTERS} characters and is no secret")
    return value


def resolve(name: str, environ: Mapping[str, str]) -> Secret:
    """The secret ``name``.

    Raises:
        ConfigError: there is none, it is empty, or its file can be read by others; the message says what to set.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(_NO_NAME)
    variable = variable_of(name)
    value, file = environ.get(variable, "").strip(), environ.get(variable + FILE_SUFFIX, "").strip()
    if value:
        return Secret(name, value)
    if file:
        return Secret(name, _content(Path(file), variable + FILE_SUFFIX))
    if _looks_like_a_value(name):
        raise ConfigError(_NO_NAME)
    raise ConfigError(
        f"the secret {name!r} is not set: set {variable}, or {variable}{FILE_SUFFIX} to a file that holds it"
    )


_NO_NAME: Final = (
    "this is no name of a secret: use small letters, digits and _, and put the value into the "
    f"variable {PREFIX}<NAME>, or into a file that {PREFIX}<NAME>{FILE_SUFFIX} names"
)
"""Without what was given: whoever writes a key where its name belongs must not find it in a log."""


def _looks_like_a_value(name: str) -> bool:
    if max(map(len, name.split("_"))) > _LONGEST_WORD:
        return True
    return len(name) >= _VALUE_LENGTH and len(_CHANGES.findall(name)) >= _VALUE_CHANGES


_GUARDED_MODE: Final = 0o740
"""systemd gives a credential to its service by an access list, whose mask stands where the group's mode bits do."""


def _systemd_guards(file: Path) -> bool:
    """Whether systemd gave us the file (``LoadCredential=``), in a folder that only this service may enter."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(folder) and file.parent == Path(folder)


def _content(file: Path, variable: str) -> str:
    try:
        with file.expanduser().open(encoding="utf-8") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & ~(_GUARDED_MODE if _systemd_guards(file) else 0o700):
                raise ConfigError(f"{variable}: {file} can be read by others (mode {mode:o}): chmod 600 {file}")
            value = opened.read(_MAX_CHARACTERS + 1).strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:  # the last for a ~ without a home
        raise ConfigError(f"{variable}: {file} cannot be read ({type(error).__name__})") from None
    if not value:
        raise ConfigError(f"{variable}: {file} is empty")
    if len(value) > _MAX_CHARACTERS:
        raise ConfigError(f"{variable}: {file} has more than {_MAX_CHARACTERS} characters and is no secret")
    return value
