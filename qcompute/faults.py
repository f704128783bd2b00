"""What pydantic finds wrong with a document, in one line for whoever wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError

OWN_WORDS = "Value error, "
"""What pydantic puts before the words of our own checks."""


def first_fault(error: ValidationError, under: str = "", *, whole: str = "") -> str:
    """The first fault: its place below ``under``, dots between, and what is wrong there; never the value.

    ``whole`` is the place of what is wrong with the document as a whole, where ``under`` does not say it.
    """
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(filter(None, [under, *map(str, first["loc"])])) or whole
    words = first["msg"].removeprefix(OWN_WORDS)
    return f"{place}: {words}" if place else words


def meant(error: ValidationError, names: Iterable[str]) -> str:
    """A question whether one of ``names`` was meant by an unknown one; empty when none is like it."""
    place = ".".join(map(str, error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"]))
    near = difflib.get_close_matches(place, list(names), n=1)
    return f"; did you mean {near[0]}?" if near and near[0] != place else ""
