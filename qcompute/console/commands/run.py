"""``qcompute run``: a circuit of the operator's own, on the road of a validator's job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from qcompute.console.app import Json, command
from qcompute.console.arguments import Invocation, invocation_of, output_for, tell_left_out
from qcompute.console.exit_codes import ExitCode
from qcompute.console.histogram import histogram
from qcompute.console.output import Output, Style
from qcompute.console.own_jobs import ChosenDevice, CircuitFile, answered, circuit_text, is_agreed
from qcompute.console.progress import progress
from qcompute.miner.commands import Estimate, Look, Run
from qcompute.miner.job import State, Verdict
from qcompute.miner.settings import Settings

_LOOK_SECONDS: Final = 0.3

_ROAD: Final = (State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING, State.SETTLED, State.CLOSED)


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, run)


def run(
    ctx: typer.Context,
    file: CircuitFile,
    *,
    device: ChosenDevice = None,
    shots: Annotated[int, typer.Option(metavar="N", min=1, help="how often it is run")] = 1000,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask whether the cost is right")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="only say where it would run and what it costs")] = False,
    wait: Annotated[bool, typer.Option(help="wait for the result; it goes on without you either way")] = True,
    json: Json = False,
) -> int:
    """Run a circuit on the running daemon, the way a validator's job goes.

    The same screen, sandbox, routing, budget, ledger and receipt; the platform does not hear of it. The cost is
    estimated and shown before anything is submitted, and asked about unless --yes says so. Exit code 1: the job did
    not succeed, or you said no; 3: no daemon runs.
    """
    invocation = invocation_of(ctx)
    settings = invocation.settings()
    output = output_for(as_json=json)
    given: dict[str, Any] = {
        "circuit": circuit_text(file),
        "shots": shots,
        "options": {} if device is None else {"device": device},
    }
    there = answered(settings, Estimate(**given))
    if not json:
        _tell_estimate(there, output)
    if estimate:
        if json:
            output.document(there)
        return ExitCode.DONE
    if not is_agreed("Run it?", yes=yes, as_json=json):
        output.line("nothing was submitted")
        return ExitCode.FAILED
    execution_id: str = answered(settings, Run(**given))["execution_id"]
    if not wait:
        if json:
            output.document({"execution_id": execution_id, "expected": there})
        else:
            output.line(f"{execution_id} is on its way:")
            _tell_command(invocation, f"qcompute jobs show {execution_id}", output)
        return ExitCode.DONE
    return _followed(invocation, settings, execution_id, there, output)


def _tell_estimate(there: dict[str, Any], output: Output) -> None:
    price = there["estimate"]
    output.facts(
        {
            "circuit": f"{there['num_qubits']} qubits, depth {there['depth']}, {there['num_ops']} operations",
            "device": f"{there['account']}/{there['device_id']} ({there['device_type']}; {there['reason']})",
            "shots": there["shots"],
            "cost": "not known beforehand" if price is None else f"{price['amount']} {price['currency']} expected",
        }
    )


def _tell_command(invocation: Invocation, command: str, output: Output, style: Style = Style.PLAIN) -> None:
    output.command(invocation.again(command), style)
    tell_left_out(invocation, output)


def _followed(
    invocation: Invocation, settings: Settings, execution_id: str, there: dict[str, Any], output: Output
) -> ExitCode:
    try:
        ended = _with_progress(settings, execution_id, output)
    except KeyboardInterrupt:
        look, left_out = invocation.again(f"qcompute jobs show {execution_id}"), invocation.left_out()
        lines = [f"qcompute: {execution_id} goes on without you:", f"  {look}", *filter(None, [left_out])]
        sys.stderr.write("\n".join(lines) + "\n")
        return ExitCode.INTERRUPTED
    job = ended["job"]
    is_well = job["verdict"] == Verdict.SUCCEEDED
    if output.as_json:
        output.document({**ended, "execution_id": execution_id, "expected": there})
        return ExitCode.DONE if is_well else ExitCode.FAILED
    if job["state"] == State.HELD:
        output.line(f"{execution_id} is held, and this says what to do:", Style.BAD)
        _tell_command(invocation, f"qcompute jobs show {execution_id}", output)
    elif is_well:
        histogram(ended["counts"] or {}, output)
        cost = ended["cost"]
        output.line("cost not known" if cost is None else f"cost {cost['amount']} {cost['currency']}")
        output.line("receipt:", Style.FAINT)
        _tell_command(invocation, f"qcompute receipts export {execution_id}", output, Style.FAINT)
    else:
        output.line(f"{job['verdict']}: {ended['message'] or job['error']}", Style.BAD)
    return ExitCode.DONE if is_well else ExitCode.FAILED


def _with_progress(settings: Settings, execution_id: str, output: Output) -> dict[str, Any]:
    """Show the steps until it has ended, or is held; returns what was said of it last."""
    with progress(output, "accepted", len(_ROAD) - 1) as show:

        def show_job(job: dict[str, Any]) -> None:
            step = _ROAD.index(State(job["state"])) if job["state"] in _ROAD else 0
            vendors = job["vendor_status"] if job["state"] == State.WAITING else None  # its last word stays on the row
            show(step, " ".join(word for word in (job["state"], vendors, job["error_code"]) if word))

        return _ended(settings, execution_id, show_job)


def _ended(settings: Settings, execution_id: str, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    while True:
        told = answered(settings, Look(execution_id=execution_id))
        show(told["job"])
        if told["job"]["state"] in (State.CLOSED, State.HELD):
            return told
        time.sleep(_LOOK_SECONDS)
