"""What an operator's own modules raise, as words that name the place: a fleet may be written in Python, and run any."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from qcompute.errors import ConfigError
from qcompute.faults import first_fault


@contextmanager
def told_as(place: str) -> Generator[None]:
    """In here, whatever an operator's code raises becomes a `ConfigError` that begins with ``place``.

    Raises:
        ConfigError: see `fault_of`; one that names the place already is left as it is.
    """
    try:
        yield
    except ConfigError as error:
        raise error if error.message.startswith(place) else ConfigError(f"{place}: {error.message}") from error
    except Exception as error:
        raise ConfigError(f"{place}: {fault_of(error)}") from error


def fault_of(error: Exception) -> str:
    """What is wrong, in one line. Texts of errors that are no refusals stay where they are: they may hold anything."""
    name = type(error).__name__
    # The text of a KeyError is its key in quotes, also where that is a sentence.
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    match error:
        case ConfigError():
            return error.message
        case SyntaxError():
            return f"{name} in {error.filename}, line {error.lineno}"
        case ValidationError():  # a ValueError, whose own text quotes what was given: a key, perhaps
            return first_fault(error, whole=error.title)
        case OSError() if error.errno is not None and error.strerror and isinstance(error.filename, str | Path):
            return f"{name}: {error.filename}: {error.strerror}"
        case ImportError() | LookupError() | TypeError() | ValueError() if text:
            is_sentence = type(error) in (ImportError, ModuleNotFoundError, ValueError) or isinstance(error, KeyError)
            return text if is_sentence and " " in text else f"{name}: {text}"
        case _:
            return f"{name}{_where(error)}"


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename)}, line {frames[-1].lineno}" if frames else ""
