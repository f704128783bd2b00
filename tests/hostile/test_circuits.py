"""A sample of the hostile circuits in a sandbox and through a real daemon; the full run has them all."""

# openqasm3 ships no types
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.parse import load
from qcompute.circuits.program import Language
from qcompute.circuits.screen import screen
from qcompute.circuits.translate import translate
from qcompute.circuits.unroll import unrolled
from qcompute.errors import CannotRun
from qcompute.local.demo_jobs import BELL
from tests.hostile.circuits import DEVICE, LIMITS, complaint, run, unclear
from tests.hostile.corpus import HOSTILE_CASES, Case
from tests.hostile.road import through_a_daemon
from tests.unit.circuits.programs import END_3, HOSTILE, ONE_3, THREE, TWO

DEAR = frozenset(
    {
        "gate bomb of 2^20",
        "10^6 gates by broadcast",
        "10^6 barriers",
        "30,000 gate definitions",
        "100,000 gate definitions",
        "gate of 100,000 parameters",
        "gate of 5,000 parameters in 3",
        "100,000 values in a set",
        "angle of 15,000 terms",
        "chain of comparisons",
        "chain of ors",
        "40 ifs in braces",
        "pow of a fraction",
        "a megabyte in one line",
        "names of 256 characters",
        "10^6 registers",
        "declaration in a loop",
        "inv tower",
        "product of large numbers",
        "chain of concatenations",
    }
)
"""Seconds each; the full run has them. The short ones of ``programs.py`` have a test of their own."""

CHEAP = [case for case in HOSTILE_CASES if case.name not in DEAR and case.name not in HOSTILE]
SAMPLE = [case for case in CHEAP if not case.runs or case.name in {"ctrl tower that fits", "3 with the body of 2"}]

THROUGH_THE_DAEMON = (
    "include of its environment",
    "gate bomb under a condition",
    "register of 2^31",
    "10^6 gates",
    "10,000 blocks",
    "infinity by a literal",
    "while of something measured",
    "percent and braces",
    "3 with the body of 2",
    "a megabyte of comments",
    "invalid UTF-8",
    "a QPY file",
    "NUL bytes alone",
)


@pytest.fixture(scope="module")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(LIMITS)
    made.compile(BELL)
    yield made
    made.close()


def name_of(case: Case) -> str:
    return case.name


def test_there_are_enough() -> None:
    assert len(HOSTILE_CASES) >= 200
    assert {case.name for case in HOSTILE_CASES} >= DEAR | set(THROUGH_THE_DAEMON)


@pytest.mark.parametrize("case", SAMPLE, ids=name_of)
def test_a_circuit_is_refused_clearly_or_runs_within_limits(compiler: CircuitCompiler, case: Case) -> None:
    assert complaint(case, run(case, compiler)) is None


async def test_a_daemon_ends_each_and_serves_others_meanwhile(tmp_path: Path) -> None:
    cases = [case for case in HOSTILE_CASES if case.name in THROUGH_THE_DAEMON]
    seen = await through_a_daemon(tmp_path, cases, unclear)
    assert len(seen) == len(THROUGH_THE_DAEMON) + 1
    assert [one for one in seen if not one.ok] == []
    assert seen[-1].facts["served_meanwhile"] >= len(cases)


def test_a_condition_on_one_bit_within_another_can_be_translated() -> None:
    """Any honest `if (c[0]) { if (c[0]) { … } }` made Qiskit panic when its registers were renamed for a device."""
    source = THREE + ONE_3 + "c = measure q; if (c[0]) { if (c[0]) { x q[0]; } }\n" + END_3
    translated = translate(load(source, Language.OPENQASM_3), DEVICE, None)
    assert translated.text.count("if (c0[0])") == 2


@pytest.mark.parametrize("angle", ["1e999", "-1e999", "1e999-1e999", "0*1e999"])
def test_an_angle_that_is_no_number_is_refused(compiler: CircuitCompiler, angle: str) -> None:
    """Infinite and undefined angles were sent to the vendor."""
    with pytest.raises(CannotRun) as caught:
        compiler.compile(TWO + f"qreg q[1];\ncreg c[1];\nrz({angle}) q[0];\nmeasure q -> c;\n")
    assert caught.value.reason == "not_finite"


def test_an_infinite_angle_in_a_branch_is_refused(compiler: CircuitCompiler) -> None:
    with pytest.raises(CannotRun) as caught:
        compiler.compile(THREE + ONE_3 + "if (c[0]) { rz(1e999) q[0]; }\n" + END_3)
    assert caught.value.reason == "not_finite"


@pytest.mark.parametrize("length", [65_400, 65_500, 65_536, 65_540, 66_600])
def test_what_is_forbidden_is_found_wherever_it_stands(length: int) -> None:
    """Long texts are searched in windows of 64 KiB: nothing may hide at their edges, and nothing be cut in two."""
    padding = TWO + "x q[0];\n" * 10_000
    for forbidden in ("while", "cal ", "1" * 19, "a" * 257, "-" * 33, "1e1234"):
        with pytest.raises(CannotRun):
            screen(padding[:length] + " " + forbidden + ";\n" + padding[length:])
    for allowed in ("defined", "boxed", "1" * 18, "a" * 256, "- " * 32, "included", "iff"):
        for shift in range(12):
            screen(padding[: length + shift] + " " + allowed + " " + padding[length + shift :])


def test_writing_loops_out_changes_nothing_of_what_it_is_given() -> None:
    import openqasm3  # noqa: PLC0415 - the sandbox's own; nothing but this test needs it

    source = THREE + "qubit[4] q;\nfor int i in [0:2] { if (true) { cx q[i], q[i + 1]; } h q[0]; }\n"
    program = openqasm3.parse(source)
    loop = program.statements[2]
    before = openqasm3.dumps(loop)
    written = unrolled(program).statements[2:]
    assert openqasm3.dumps(loop) == before
    assert [openqasm3.dumps(one).count(f"q[{n}], q[{n + 1}]") for n, one in enumerate(written[::2])] == [1, 1, 1]
    assert written[1] is written[3], "what does not depend on the variable is not copied"
