"""One target under atheris, in a process of its own: libFuzzer takes over the process it runs in.

``python -m tests.fuzz.child TARGET [libFuzzer's arguments]``; started by ``python -m tests.fuzz``.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.targets import MODULES, TARGETS


def main(arguments: list[str]) -> None:
    """Instrument what the target watches, then run until libFuzzer ends the process."""
    name, *more = arguments
    watched = MODULES[name]
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "") in watched:
            _instrument(module)
    atheris.Setup([sys.argv[0], *more], TARGETS[name])
    atheris.Fuzz()


def _instrument(module: object) -> None:
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != getattr(module, "__name__", ""):
            continue
        if callable(value) and hasattr(value, "__code__"):
            atheris.instrument_func(value)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


if __name__ == "__main__":
    main(sys.argv[1:])
