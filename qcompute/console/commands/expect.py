"""``qcompute expect``: an expectation value of a circuit that is too wide for the devices there are, by cutting it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated, Final
from uuid import UUID

import typer

from qcompute.cluster.cutting import DEFAULT_MAX_OVERHEAD, LEAST_SHOTS, CircuitCutter, allocate_shots
from qcompute.console.app import Json, command
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.expectation import RequestRun, planned
from qcompute.console.expecting import Request, parse_observable
from qcompute.console.own_jobs import ChosenDevice, CircuitFile, answered, circuit_text
from qcompute.errors import ConfigError
from qcompute.miner.commands import Parts
from qcompute.miner.own_requests import new_request_id
from qcompute.miner.settings import Settings

_LIBRARY: Final = "qiskit_addon_cutting"


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, expect)


def expect(
    ctx: typer.Context,
    file: CircuitFile,
    *,
    observable: Annotated[
        str,
        typer.Option(metavar="SUM", help="Pauli strings, as '1.0*ZZZZ + 0.5*XIIX'; the rightmost letter is qubit 0"),
    ],
    max_qubits: Annotated[int, typer.Option(metavar="N", min=1, help="no piece has more qubits")],
    max_overhead: Annotated[
        float, typer.Option(metavar="X", min=1, help="refuse cuts that multiply the shots for the same error by more")
    ] = DEFAULT_MAX_OVERHEAD,
    shots: Annotated[
        int, typer.Option(metavar="N", min=1, help=f"of all circuits together; each gets at least {LEAST_SHOTS}")
    ] = 10_000,
    device: ChosenDevice = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask whether plan and cost are right")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="only show the plan and what it costs")] = False,
    resume: Annotated[
        UUID | None, typer.Option(metavar="ID", help="go on with this request: run only what is not there")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="with --resume: run parts again that failed or were cancelled")
    ] = False,
    json: Json = False,
) -> int:
    """Give an expectation value of a circuit, cut into pieces that fit, with its standard error.

    Each piece's circuits are jobs as those of `qcompute run`, with their own receipts. The plan, its price in shots
    and the cost are shown before anything is submitted, and asked about unless --yes says so. Measurements at the end
    of the circuit are left out, the observable says what is measured; a circuit that measures on its way is refused.
    A request has an id: after a Ctrl-C, a kill or a lost daemon the same words with --resume ID go on with it, and
    nothing is run twice. Exit code 1: a part did not succeed, the circuit cannot be cut so, or you said no; 3: no
    daemon runs.
    """
    if retry_failed and resume is None:
        raise ConfigError("--retry-failed needs --resume ID: say whose parts")
    invocation = invocation_of(ctx)
    settings, text, terms = invocation.settings(), circuit_text(file), parse_observable(observable)
    _require_library()
    request_id = resume or new_request_id()
    answered(settings, Parts(request=request_id, numbers=[]))  # planning takes seconds: first, whether a daemon runs
    with _cutter(settings) as cutter:
        plan = planned(cutter, text, terms, max_qubits, max_overhead)
        request = Request(request_id, plan, allocate_shots(plan, shots), device)
        run = RequestRun(invocation, request, cutter, output_for(as_json=json))
        return run.done(yes=yes, estimate=estimate, retry_failed=retry_failed)


def _require_library() -> None:
    if find_spec(_LIBRARY) is None:
        raise ConfigError("cutting circuits needs qiskit-addon-cutting: pip install 'qcompute[cutting]'")


@contextmanager
def _cutter(settings: Settings) -> Generator[CircuitCutter]:
    cutter = CircuitCutter(settings.circuits)
    try:
        yield cutter
    finally:
        cutter.close()
