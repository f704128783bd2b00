"""Gates a program defines itself get names nobody else uses.

Everything behind the parser knows gates by name: a program's own ``gate h q { … }``, legal where no standard file is
included, would be run as the Hadamard gate, and nobody would notice. A name that the included file has is left alone:
the program is wrong, and the parser says so.
"""

# openqasm3 ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any, Final

QELIB1: Final = frozenset(
    "u3 u2 u1 cx id x y z h s sdg t tdg rx ry rz cz cy ch ccx crz cu1 cu3".split()  # noqa: SIM905 - read as one line
)
"""The gates of ``qelib1.inc`` as published with OpenQASM 2."""

BUILT_IN_2: Final = frozenset(("U", "CX"))
"""What OpenQASM 2 itself defines: a program that defines it again is wrong, and the parser says so."""

STDGATES: Final = frozenset(
    [
        "p",
        "x",
        "y",
        "z",
        "h",
        "s",
        "sdg",
        "t",
        "tdg",
        "sx",
        "rx",
        "ry",
        "rz",
        "cx",
        "cy",
        "cz",
        "cp",
        "crx",
        "cry",
        "crz",
        "ch",
        "swap",
        "ccx",
        "cswap",
        "cu",
        "CX",
        "phase",
        "cphase",
        "id",
        "u1",
        "u2",
        "u3",
    ]
)
"""The gates of ``stdgates.inc`` of OpenQASM 3."""

_TOKEN: Final = re.compile(r'//[^\n]*|"[^"\n]*"|[A-Za-z_]\w*')
_PREFIX: Final = "user_"


def renamed_2(source: str) -> str:
    """OpenQASM 2 text whose own gates have new names. Lines stay lines."""
    if "gate" not in source:
        return source  # most define none, and cutting the text into words takes a sixth of the time of parsing it
    words = [token for token in _TOKEN.findall(source) if token[0] not in '"/']
    own = {name for word, name in pairwise(words) if word == "gate"} - BUILT_IN_2
    names = _new_names(own - (QELIB1 if "qelib1.inc" in source else frozenset()), set(words))
    return _TOKEN.sub(lambda match: names.get(match[0], match[0]), source) if names else source


def renamed_3(program: Any) -> Any:  # noqa: ANN401 - openqasm3 ships no types
    """The tree of an OpenQASM 3 program whose own gates have new names."""
    kinds = [type(statement).__name__ for statement in program.statements]
    own = {
        one.name.name for one, kind in zip(program.statements, kinds, strict=True) if kind == "QuantumGateDefinition"
    }
    names = _new_names(own - (STDGATES if "Include" in kinds else frozenset()), own)
    if names:
        _rename(program, names)
    return program


def _new_names(own: AbstractSet[str], taken: AbstractSet[str]) -> dict[str, str]:
    """For each of ``own`` a name that is not in ``taken``."""
    names: dict[str, str] = {}
    used = set(taken)
    for name in sorted(own):
        new = _PREFIX + name
        while new in used:
            new += "_"
        names[name] = new
        used.add(new)
    return names


def _rename(node: Any, names: Mapping[str, str]) -> None:  # noqa: ANN401
    """Definitions and uses below ``node``; the tree has been found shallow before."""
    import openqasm3.ast as tree  # noqa: PLC0415 - the sandbox's own import

    if isinstance(node, list):
        for item in node:
            _rename(item, names)
    elif isinstance(node, tree.QASMNode):
        if isinstance(node, tree.QuantumGate | tree.QuantumGateDefinition) and node.name.name in names:
            node.name.name = names[node.name.name]
        for field, value in vars(node).items():
            if field != "span":
                _rename(value, names)
