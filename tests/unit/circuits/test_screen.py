"""The screen and the estimate on texts nobody thought of: an answer or a refusal, never another error."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompute.circuits.cost import _PLAIN_CALL, check_cost
from qcompute.circuits.program import Language
from qcompute.circuits.screen import _FORBIDDEN, _check_nesting, _first, screen, without_comments
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun
from tests.unit.circuits.programs import HOSTILE, ONE_2, ONE_3, THREE, TWO

WORDS = [
    "qubit",
    "qreg",
    "bit",
    "creg",
    "gate",
    "g",
    "x",
    "q",
    "c",
    "if",
    "for",
    "int",
    "in",
    "ctrl",
    "@",
    "pow",
    "let",
    "const",
    "measure",
    "->",
    "=",
    "==",
    "barrier",
    "reset",
    "include",
    '"stdgates.inc"',
    "0",
    "1",
    "9_9",
    "0x1f",
    "1e999",
    "-",
    "+",
    "*",
    "/",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ";",
    ";",
    ";",
    ",",
    ":",
    "//",
    "/*",
    "*/",
    "$7",
    "\n",
]


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A header and words in any order."""
    return draw(st.sampled_from([TWO, THREE])) + " ".join(draw(st.lists(st.sampled_from(WORDS), max_size=60)))


@given(st.text())
def test_any_text_is_screened_or_refused(text: str) -> None:
    with contextlib.suppress(CannotRun):
        screen(text)


@given(st.text(alphabet="/*\"' ab\n"))
def test_comments_become_blanks_and_lines_keep_their_numbers(text: str) -> None:
    code = without_comments(text)
    assert code.count("\n") == text.count("\n")
    for before, after in zip(text.split("\n"), code.split("\n"), strict=True):
        assert len(after) <= len(before)
        assert set(after) <= {*before, " "}
    assert without_comments(code) == code


@settings(max_examples=300, deadline=None)
@given(programs())
def test_any_program_has_a_cost_or_is_refused(program: str) -> None:
    limits = CircuitSettings()
    with contextlib.suppress(CannotRun):
        assert 0 <= check_cost(program, screen(program), limits) <= limits.max_ops


@pytest.mark.parametrize("name", HOSTILE)
def test_the_screen_holds_nothing_up(name: str) -> None:
    """It runs in the daemon, where a second lost is a second nobody else gets."""
    began = time.monotonic()
    with contextlib.suppress(CannotRun):
        screen(HOSTILE[name])
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("source", "language", "cost"),
    [
        (TWO + ONE_2 + "x q[0];\n", Language.OPENQASM_2, 1),
        (TWO + "qreg q[5];\ncreg c[5];\nx q;\nmeasure q -> c;\n", Language.OPENQASM_2, 10),
        (TWO + "gate g a { x a; h a; z a; }\nqreg q[5];\ng q;\n", Language.OPENQASM_2, 15),
        (TWO + "qreg q[5];\ncreg c[3];\nif(c==1) x q;\n", Language.OPENQASM_2, 20),
        (THREE + "qubit[5] q;\nx q[1:3];\n", Language.OPENQASM_3, 5),
        (THREE + "qubit[5] q;\nlet a = q ++ q[0];\nx a;\n", Language.OPENQASM_3, 12),
        (THREE + ONE_3 + "for int i in [0:2:9] { x q[0]; h q[0]; }\n", Language.OPENQASM_3, 11),
        (THREE + ONE_3 + "for int i in [9:-3:0] { x q[0]; }\n", Language.OPENQASM_3, 5),
        (THREE + ONE_3 + "pow(7) @ x q[0];\n", Language.OPENQASM_3, 8),
        (THREE + "qubit[4] q;\nreset q;\nbarrier q;\npow(1) @ x q;\n", Language.OPENQASM_3, 12),
    ],
)
def test_what_a_circuit_costs(source: str, language: Language, cost: int) -> None:
    assert check_cost(source, language, CircuitSettings()) == cost


@pytest.mark.parametrize("line", ["while (true) { }", 'include "/etc/passwd";', "def f() { }"])
def test_what_follows_a_carriage_return_is_no_comment(line: str) -> None:
    """OpenQASM 3 ends a comment at a bare carriage return; the screen did not, and let through what came after it."""
    with pytest.raises(CannotRun):
        screen(f"{THREE}// nothing\r{line}\n")


def test_a_loop_behind_a_carriage_return_is_counted() -> None:
    """A loop of 10^12 turns was taken for a comment by the estimate, and written out until the memory was gone."""
    with pytest.raises(CannotRun) as caught:
        check_cost(
            f"{THREE}qubit q;\n// nothing\rfor int i in [0:1000000000000] {{ x q; }}\n",
            Language.OPENQASM_3,
            CircuitSettings(),
        )
    assert caught.value.reason == "too_many_ops"


@given(st.lists(st.sampled_from([*WORDS, *"deflcaxtrnwhi#@^*/~!\n \te.", "1" * 19, "w" * 257, "- " * 33]), max_size=30))
def test_a_quick_look_misses_nothing_that_is_forbidden(pieces: list[str]) -> None:
    """A pattern is searched for only where a text it needs is: the answer is that of the pattern alone."""
    code = "".join(pieces)
    for needed, pattern, _ in _FORBIDDEN:
        found, expected = _first(pattern, code, needed), pattern.search(code)
        assert (found and found.span()) == (expected and expected.span())


@given(st.text(alphabet="()[]{}x;\n", max_size=60), st.integers(4, 6))
def test_brackets_are_counted_whatever_is_between_them(code: str, most: int) -> None:
    depth = deepest = 0
    for letter in code:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    assert deepest <= most or _refusal(code, most) == "too_deep"
    assert deepest > most or _refusal(code, most) is None


def _refusal(code: str, most: int) -> str | None:
    try:
        _check_nesting(code, most)
    except CannotRun as refusal:
        return refusal.reason
    return None


def test_a_long_text_is_nested_too_deeply_as_a_short_one_is() -> None:
    """Brackets further apart than a window of the search."""
    with pytest.raises(CannotRun, match="line 49: brackets nested more than 48 deep"):
        _check_nesting("(\n" + f"{'x' * 70_000}(\n" * 60, 48)


CALLS = [
    "{} q[0];",
    "{} q[0],q[1];",
    "{} q [ 0 ] , q[1];",
    "{}(pi/2) q[1];",
    "{}((1)) q[1];",
    "{} q;",
    "{} q[0], q;",
    "measure q[0] -> c[0];",
    "measure q -> c;",
    "if(c==1) {} q[0];",
    "barrier q[0],q;",
    "qreg {}s[3];",
    "qubit[2] {}s;",
    "creg {}t[2];",
]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CALLS), st.sampled_from(["x", "own", "u3", "q", "included"])), max_size=8))
def test_a_statement_on_single_bits_costs_what_it_would_cost_otherwise(calls: list[tuple[str, str]]) -> None:
    """Spoiling the short way with brackets that change nothing sends a statement the long way."""
    limits = CircuitSettings()
    head = TWO + "gate own a { x a; h a; z a; }\nqreg q[5];\ncreg c[3];\n"
    texts = [call.format(name) for call, name in calls]
    statements = [text.rstrip(";") for text in texts]
    assert not any(_PLAIN_CALL.match(one) for one in statements if one.startswith(("qreg", "creg", "qubit", "if")))
    long_way = [text.replace("[0]", "[0+0]").replace("[1]", "[1+0]").replace(" 0 ", " 0+0 ") for text in texts]
    costs = [check_cost(head + "".join(one), Language.OPENQASM_2, limits) for one in (texts, long_way)]
    assert costs[0] == costs[1]
