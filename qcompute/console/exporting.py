"""Jobs as JSON lines or as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, TextIO, assert_never

from qcompute.miner.job import Job
from qcompute.miner.operator import JobDocument, job_document


class ExportFormat(StrEnum):
    """How jobs are written out."""

    JSONL = "jsonl"
    CSV = "csv"


COLUMNS: Final = tuple(JobDocument.model_fields)

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula: a vendor's words must not run in it."""


def write_jobs(jobs: Iterable[Job], form: ExportFormat, file: TextIO) -> int:
    """Write all of them; returns how many."""
    match form:
        case ExportFormat.JSONL:
            return _json_lines(jobs, file)
        case ExportFormat.CSV:
            return _csv(jobs, file)
        case _:
            assert_never(form)


def _json_lines(jobs: Iterable[Job], file: TextIO) -> int:
    count = 0
    for count, job in enumerate(jobs, start=1):  # noqa: B007 - the last one is the count
        file.write(json.dumps(job_document(job), ensure_ascii=False) + "\n")
    return count


def _csv(jobs: Iterable[Job], file: TextIO) -> int:
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    count = 0
    for count, job in enumerate(jobs, start=1):  # noqa: B007 - as above
        document = job_document(job)
        writer.writerow([_cell(document[name]) for name in COLUMNS])
    return count


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
