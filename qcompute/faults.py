"""What pydantic finds wrong with a document, in one line for whoever wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

OWN_WORDS = "Value error, "
"""What pydantic puts before the words of our own checks."""


def first_fault(error: ValidationError, under: str = "", *, whole: str = "") -> str:
    """The first fault: its place below ``under``, dots between, and what is wrong there; never the value.

    ``whole`` is the place of what is wrong with the document as a whole, where ``under`` does not say it.
    """
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(filter(None, [under, *map(str, first["loc"])])) or whole
    words = in_words(first)
    return f"{place}: {words}" if place else words


def in_words(details: ErrorDetails) -> str:
    """What is wrong, in words for whoever writes TOML, where there are lists and no tuples."""
    if details["type"] == "tuple_type":
        return "Input should be a list"
    return details["msg"].removeprefix(OWN_WORDS)


def unset(error: ValidationError) -> list[str]:
    """The places of what must be there and is not, dots between; empty where that is not what is wrong first."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    if faults[0]["type"] != "missing":
        return []
    return [".".join(map(str, fault["loc"])) for fault in faults if fault["type"] == "missing"]


def meant(error: ValidationError, names: Iterable[str]) -> str:
    """A question whether one of ``names`` was meant by an unknown one; empty when none is like it."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] != "extra_forbidden":
        return ""
    place = ".".join(map(str, first["loc"]))
    near = difflib.get_close_matches(place, list(names), n=1)
    return f"; did you mean {near[0]}?" if near and near[0] != place else ""
