"""Says at the end of a run which tests of a GPU saw none."""

from __future__ import annotations

import pytest

NOT_RUN = "not_run_on_a_gpu"
"""The property a test records, with the reason, when there was no GPU for it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    reasons = [str(text) for report in reports for name, text in report.user_properties if name == NOT_RUN]
    if reasons:
        terminalreporter.section("not run on a GPU")
        for reason in reasons:
            terminalreporter.write_line(reason)
