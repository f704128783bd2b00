"""Files for those who watch the daemon: Prometheus' rules and an example of its settings, Grafana's dashboard.

``python -m qcompute.console.monitoring`` says where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent

FILES: Final = ("rules.yml", "dashboard.json", "prometheus.yml")
