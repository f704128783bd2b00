"""The lexical screen: what no honest circuit needs is refused before any parser sees the text.

Linear in the length of the text and free of recursion, so it may run in the daemon itself. It is not a parser: what
passes here is still parsed in a sandbox.
"""

from __future__ import annotations

import re
from typing import Final

from qcompute.circuits.program import Language
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun

_COMMENTS: Final = re.compile(r'"[^"\n]*"|\'[^\'\n]*\'|//[^\r\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
"""Strings (kept) and comments. One that is never closed runs to the end in one match: trying again at each of a
million ``/*`` would take hours. A carriage return ends a ``//`` as well: for OpenQASM 3 what follows is program."""
_NOT_NEWLINE: Final = re.compile(r"[^\n]+")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_HEADER: Final = re.compile(r"\s*OPENQASM\s+(\d{1,3})(?:\.(\d{1,3}))?\s*;")
# The word first and what stands before it afterwards: a pattern that begins with letters is searched ten times faster.
_INCLUDE: Final = re.compile(r"include(?<!\winclude)\b\s*(\"[^\"\n]*\"|'[^'\n]*')?")
_BRACKETS: Final = re.compile(r"[()\[\]{}]")
_NESTED: Final = re.compile(r"[(\[{][^()\[\]{}]*+[(\[{]")

# No pattern tries again at every character of what it has just walked over: megabytes of names of 255 letters, or of 32
# signs and a blank, held the daemon up for a second each.
_FORBIDDEN: Final = (
    (
        ("def", "cal", "extern", "while", "opaque", "delay", "duration", "stretch", "box", "pragma"),
        re.compile(r"\b(?:defcalgrammar|defcal|cal|extern|def|while|opaque|delay|duration|stretch|box|pragma)\b"),
        "word",
    ),
    (("#",), re.compile(r"#"), "a pragma"),
    (("@",), re.compile(r"(?:^|[;{}])[ \t]*+@", re.MULTILINE), "an annotation"),
    (("**",), re.compile(r"\*\*"), "a power"),
    (("^",), re.compile(r"\^"), "a power"),
    (("/*",), re.compile(r"/\*"), "an unterminated comment"),
    (("",), re.compile(r"(?<![.0-9])[0-9]{19}|[0-9]{41}"), "a number of more than 18 digits, or 40 behind the point"),
    (("",), re.compile(r"[0-9.][eE][+-]?[0-9]{4}"), "an exponent of more than 3 digits"),
    (("",), re.compile(r"\b\w{257}"), "a name of more than 256 characters"),
    (("-", "+", "!", "~"), re.compile(r"(?<![-+!~])[-+!~](?:\s*+[-+!~]){32}"), "a chain of more than 32 signs"),
)
"""What is searched for only where one of the texts before it is: to look for those takes a hundredth of the time."""

_WINDOW: Final = 1 << 16
_OVERLAP: Final = 1 << 10
"""A search keeps every other thread of the daemon waiting, so long texts are searched in windows; what is forbidden
is shorter than the overlap. Blanks without end may stretch it: then the parser's own limits in the sandbox stand."""

_IF: Final = re.compile(r"if(?<!\wif)\b")
_STATEMENT_END: Final = re.compile(r"[;{}]")
_MAX_IFS: Final = 8
"""Ifs within one statement, without braces; the reference parser's time doubles with each."""

_INCLUDES: Final = {Language.OPENQASM_2: "qelib1.inc", Language.OPENQASM_3: "stdgates.inc"}


def screen(source: str, settings: CircuitSettings | None = None) -> Language:
    """The language of a text that may be handed to the sandbox.

    Raises:
        CannotRun: with the line and the reason; the text itself is never quoted beyond a single keyword.
    """
    limits = settings or CircuitSettings()
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > limits.max_source_bytes:
        raise CannotRun(f"the circuit has {size} bytes, the limit is {limits.max_source_bytes}", reason="too_large")
    if (control := _CONTROL.search(source)) is not None:
        raise _refused(source, control.start(), "a control character", "not_text")
    code = without_comments(source)
    language = _language(code)
    _check_includes(code, language)
    for needed, pattern, what in _FORBIDDEN:
        if (match := _first(pattern, code, needed)) is not None:
            found = f"`{match.group().strip()}`" if what == "word" else what
            raise _refused(code, match.start(), f"{found} is not allowed here", "not_allowed")
    _check_ifs(code)
    _check_nesting(code, limits.max_nesting)
    return language


def _first(pattern: re.Pattern[str], code: str, needed: tuple[str, ...]) -> re.Match[str] | None:
    for start in range(0, len(code), _WINDOW):
        end = start + _WINDOW + _OVERLAP
        if all(code.find(text, start, end) < 0 for text in needed):
            continue
        match = pattern.search(code, start, end)
        # One that begins in the overlap may be cut short at its end; the next window sees it whole.
        if match is not None and match.start() < start + _WINDOW:
            return match
    return None


def without_comments(source: str) -> str:
    """The text with a blank for each line of a comment; lines keep their numbers."""

    def blank(match: re.Match[str]) -> str:
        text = match.group()
        unterminated = text.startswith("/*") and not (text.endswith("*/") and len(text) >= len("/**/"))
        return text if text[0] in "\"'" or unterminated else _NOT_NEWLINE.sub(" ", text)

    return _COMMENTS.sub(blank, source)


def _language(code: str) -> Language:
    header = _HEADER.match(code)
    if header is None:
        raise CannotRun(
            "line 1: a program must begin with `OPENQASM 2.0;` or `OPENQASM 3.0;`", reason="no_header", line=1
        )
    match header.group(1):
        case "2":
            return Language.OPENQASM_2
        case "3":
            return Language.OPENQASM_3
        case other:
            raise CannotRun(f"line 1: OpenQASM {other} is not a version known here", reason="no_header", line=1)


def _check_includes(code: str, language: Language) -> None:
    allowed = _INCLUDES[language]
    for include in _INCLUDE.finditer(code):
        name = (include.group(1) or "")[1:-1]
        if name != allowed:
            raise _refused(code, include.start(), f'only `include "{allowed}"` is allowed', "include")


def _check_ifs(code: str) -> None:
    ifs = end = 0
    for match in _IF.finditer(code):
        ifs = 1 if _STATEMENT_END.search(code, end, match.start()) else ifs + 1
        end = match.end()
        if ifs > _MAX_IFS:
            raise _refused(code, match.start(), f"more than {_MAX_IFS} ifs in one statement; use braces", "too_deep")


def _check_nesting(code: str, most: int) -> None:
    if len(code) <= _WINDOW and _NESTED.search(code) is None:
        return  # a bracket at a time is slow; most circuits have none within another
    depth = 0
    for bracket in _BRACKETS.finditer(code):
        if bracket.group() in "([{":
            depth += 1
            if depth > most:
                raise _refused(code, bracket.start(), f"brackets nested more than {most} deep", "too_deep")
        else:
            depth -= 1


def _refused(text: str, position: int, what: str, reason: str) -> CannotRun:
    line = text.count("\n", 0, position) + 1
    return CannotRun(f"line {line}: {what}", reason=reason, line=line)
