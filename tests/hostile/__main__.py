"""``python -m tests.hostile [NAME …]``: run the named suites of hostile input, or all, and keep what they saw.

Each is a module beside this one whose ``main()`` returns whether everything that was promised held.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

SUITES = ("circuits", "ssrf", "network", "api")


def main(names: list[str]) -> int:
    """0 when every promise held, 1 when not, 2 for a name that is none."""
    there = [name for name in SUITES if (Path(__file__).parent / f"{name}.py").exists()]
    if unknown := [name for name in names if name not in there]:
        sys.stderr.write(f"no suite {', '.join(unknown)}; there are {', '.join(there)}\n")
        return 2
    held = [importlib.import_module(f"tests.hostile.{name}").main() for name in names or there]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
