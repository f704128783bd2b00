"""A fixed part of the suite "hostile network"; ``python -m tests.hostile network`` runs all of it."""

from __future__ import annotations

import pytest

from tests.hostile.network import CASES, GROWTH_MIB, run_cases, wrong_answers
from tests.hostile.network_attacks import CUT, Answer, Case, answers_in, sends

SAMPLED = [case for case in CASES if case.sampled]


def test_no_case_stands_twice() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(SAMPLED) >= 30


async def test_sampled_attacks_come_to_nothing() -> None:
    judged, growth = await run_cases(SAMPLED)
    assert {one.case.name: one.faults for one in judged if one.faults} == {}
    assert len(judged) == len(SAMPLED)
    assert growth <= GROWTH_MIB


REFUSAL = Answer(401, b'{"message":"Not Verified with error: Missing Nonce"}', 0.1)


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ([REFUSAL], ""),
        ([Answer(200, b"{}", 0.1)], "answered [200]"),
        ([], "never answered [401]"),
        ([Answer(401, b"no", 0.1)], "without a short message"),
        ([Answer(401, b'{"message":"no"}', 0.1)], "not 'Missing Nonce'"),
        ([Answer(401, b'{"message":"Missing Nonce in /usr/lib/x.py"}', 0.1)], "shows"),
        ([Answer(CUT, b"the server kept this connection for ever", 0.1)], "for ever"),
    ],
)
def test_a_wrong_answer_is_seen(answers: list[Answer], fault: str) -> None:
    """The judge itself: a suite that finds nothing must be one that could."""
    faults = wrong_answers(Case("", sends(), (401,), "Missing Nonce"), answers)
    assert fault in "; ".join(faults)
    assert (faults == []) is (not fault)


def test_answers_are_told_apart() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 404 Not Found\r\n\r\nx"
    assert [(answer.status, answer.body) for answer in answers_in(raw, 0.0)] == [(200, b"{}"), (404, b"x")]
    assert [answer.status for answer in answers_in(b"", 0.0)] == [CUT]
