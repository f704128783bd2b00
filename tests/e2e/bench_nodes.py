"""A machine of the operator's own, as a fleet names it: ``provider = "tests.e2e.bench_nodes:BenchNodes"``.

It writes down every run, by its shots, which the tests give each job a number of its own of. While ``stop`` is in its
folder no run ends, and while ``unwell`` is there it does not feel well.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from qcompute.cluster import NodeProvider, NodeType, QPUNodeSpec
from qcompute.units import Counts
from tests.providers.lab_nodes import simulated


class BenchNodes(NodeProvider):
    """One node, whose runs cost something."""

    DISPLAY_NAME: ClassVar[str] = "The bench"
    repeatable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._folder = Path()

    @override
    def build_nodes(self, folder: str = "", **kwargs: Any) -> list[QPUNodeSpec]:
        self._folder = Path(folder)
        return [QPUNodeSpec("bench-1", NodeType.CPU_NUMPY, 8, tags=["bench", *kwargs.get("tags", ())])]

    @override
    def health_check(self) -> bool:
        return not (self._folder / "unwell").exists()

    @override
    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> Counts | None:
        with (self._folder / "runs").open("a", encoding="utf-8") as runs:
            runs.write(f"{shots}\n")
        while (self._folder / "stop").exists():
            time.sleep(0.05)
        return simulated(circuit, shots)
