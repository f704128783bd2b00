"""One line for whoever wrote a document that will not do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from qcompute.faults import first_fault, meant


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: list[Part] = []
    token: str = ""

    @model_validator(mode="after")
    def _named(self) -> Whole:
        if self.token == "bad":
            raise ValueError("give another token")
        return self


def fault_of(document: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(document)
    return caught.value


def test_only_a_name_nobody_knows_is_asked_about() -> None:
    """A wrong value at ``base_urls.0`` was answered with "did you mean base_urls?"."""
    assert meant(fault_of({"part": []}), Whole.model_fields) == "; did you mean parts?"
    assert meant(fault_of({"parts": [7]}), Whole.model_fields) == ""


def test_a_place_is_named_below_where_the_document_stands() -> None:
    error = fault_of({"parts": [{"size": 1}, {"size": "hidden"}]})
    told = first_fault(error, "providers.x")
    assert told.startswith("providers.x.parts.1.size: Input should be a valid integer")
    assert "hidden" not in told


@pytest.mark.parametrize(
    ("under", "whole", "told"),
    [
        ("providers.rest", "", "providers.rest: give another token"),
        ("", "body", "body: give another token"),
        ("", "", "give another token"),
    ],
)
def test_what_is_wrong_with_the_whole_has_no_dot_behind_it(under: str, whole: str, told: str) -> None:
    """It was told as ``providers.rest.: Value error, name at least one endpoint``."""
    assert first_fault(fault_of({"token": "bad"}), under, whole=whole) == told


def test_an_unknown_word_is_met_with_the_one_that_is_like_it() -> None:
    assert meant(fault_of({"tokn": "x"}), Whole.model_fields) == "; did you mean token?"
    assert meant(fault_of({"zzz": "x"}), Whole.model_fields) == ""
    assert meant(fault_of({"token": 5}), Whole.model_fields) == "", "it is known, and its value is wrong"
