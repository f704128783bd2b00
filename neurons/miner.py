"""Starts the miner: settings in, exit code out. ``python neurons/miner.py --help`` says what can be set."""

from __future__ import annotations

import sys
from pathlib import Path

# The process manager may start this file from anywhere; the packages lie beside its folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qcompute.miner.settings import Settings
from qcompute.miner.settings_cli import command_line


def main() -> int:
    """Read the settings and run the daemon: 0 after an orderly stop, 1 when a part failed, 2 for wrong settings."""
    return command_line(sys.argv[1:], _run)


def _run(settings: Settings) -> int:
    # Imports bittensor, which takes about a second: --help, --check-config and a wrong flag need not wait for it.
    from qcompute.console.surroundings import surround  # noqa: PLC0415
    from qcompute.miner.app import main as run  # noqa: PLC0415

    return run(settings, surround)


if __name__ == "__main__":
    sys.exit(main())
