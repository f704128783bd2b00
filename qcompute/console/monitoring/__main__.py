"""``python -m qcompute.console.monitoring``: one path a line."""

from __future__ import annotations

import sys

from qcompute.console.monitoring import FILES, FOLDER

sys.stdout.writelines(f"{FOLDER / name}\n" for name in FILES)
