"""One request of ``qcompute expect``, from plan to value: what is shown, asked, run, and said when a part stops."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from qcompute.cluster.cutting import CircuitCutter, CuttingPlan, Expectation
from qcompute.console.arguments import Invocation, tell_left_out
from qcompute.console.exit_codes import ExitCode
from qcompute.console.expecting import Known, PartStopped, Request, RequestJobs, observable_text
from qcompute.console.output import Output, Style
from qcompute.console.own_jobs import answered, is_agreed
from qcompute.console.prices import Sum
from qcompute.console.progress import progress
from qcompute.errors import CannotRun, ConfigError, QComputeError
from qcompute.miner.commands import Estimate
from qcompute.miner.own_requests import MAX_PARTS, MAX_TRIES


def planned(
    cutter: CircuitCutter, text: str, terms: Mapping[str, float], max_qubits: int, max_overhead: float
) -> CuttingPlan:
    """As `CircuitCutter.plan`, with the command's own words for a cap that is too low, and for too many circuits."""
    try:
        plan = cutter.plan(text, terms, max_qubits, max_overhead)
    except CannotRun as error:
        if error.reason == "cutting_overhead":
            raise CannotRun(
                f"{error.message} (--max-overhead; or a larger --max-qubits)", reason=error.reason
            ) from None
        raise
    if len(plan.subexperiments) > MAX_PARTS:
        raise CannotRun(f"this takes {len(plan.subexperiments)} circuits, more than {MAX_PARTS}: see --max-qubits")
    return plan


class RequestRun:
    """One request. What it raises besides: see `qcompute.console.own_jobs.answered`."""

    def __init__(self, invocation: Invocation, request: Request, cutter: CircuitCutter, output: Output) -> None:
        settings = self._settings = invocation.settings()
        self._invocation = invocation
        self._request = request
        self._plan = request.plan
        self._cutter = cutter
        self._output = output
        self._jobs = RequestJobs(settings, request)

    def done(self, *, yes: bool, estimate: bool, retry_failed: bool) -> ExitCode:
        """Show the plan, ask, run what is missing, and tell the value. Said again, it runs nothing twice.

        Raises:
            ConfigError: nobody can be asked, and ``yes`` was not said; or a part was tried too often.
            BadReply: counts that cannot be those of their circuit.
        """
        here = self._jobs.known(range(len(self._request.shots)))
        self._jobs.open = {part.number: part.execution_id for part in here.values() if part.verdict is None}
        lost = [part for part in here.values() if part.is_lost]
        if lost and not retry_failed:
            return self._stopped(self._jobs.first_stopped(lost))
        missing = _missing(range(len(self._request.shots)), here, lost)
        expected = {number: self._estimate(number) for number in missing}
        if not self._output.as_json:
            self._show_plan(here, expected)
        if estimate:
            if self._output.as_json:
                self._output.document(self._document(expected))
            return ExitCode.DONE
        if missing and not is_agreed("Run it?", yes=yes, as_json=self._output.as_json):
            self._output.line("nothing was submitted")
            return ExitCode.FAILED
        self._name_it()
        return self._followed(here, missing, expected)

    def _estimate(self, number: int) -> dict[str, Any]:
        part, request = self._plan.subexperiments[number], self._request
        words = Estimate(circuit=part.text, shots=request.shots[number], options=request.options)
        return answered(self._settings, words)

    def _name_it(self) -> None:
        """Before the first job: who kills this must be able to go on."""
        text = f"request {self._request.request_id} (the same words with --resume {self._request.request_id} go on)"
        if self._output.as_json:
            sys.stderr.write(f"qcompute: {text}\n")
        else:
            self._output.line(text, Style.FAINT)

    def _followed(
        self, here: Mapping[int, Known], missing: Mapping[int, int], expected: Mapping[int, dict[str, Any]]
    ) -> ExitCode:
        try:
            with progress(self._output, "parts", len(self._request.shots), is_counted=True) as show:
                self._jobs.run(here, missing, show)
            value = self._cutter.reconstruct(self._plan, self._jobs.results())
        except PartStopped as stopped:
            return self._stopped(stopped)
        except KeyboardInterrupt:
            self._say_how_to_go_on()
            return ExitCode.INTERRUPTED
        except QComputeError:
            self._say_how_to_go_on()
            raise
        self._tell(value, expected)
        return ExitCode.DONE

    def _say_how_to_go_on(self) -> None:
        sys.stderr.write(
            "qcompute: what was submitted goes on without you: the same words with --resume "
            f"{self._request.request_id} submit the rest and give the value\n"
        )

    def _stopped(self, stopped: PartStopped) -> ExitCode:
        name, number = stopped.job["execution_id"], stopped.number
        again = f"--resume {self._request.request_id}"
        if stopped.is_held:
            first = f"part {number} is held: {stopped.words}"
            look = self._invocation.again(f"qcompute jobs show {name}")
            action = f"then the same words with {again} go on"
            called_off, left = list[int](), list[int]()
        else:
            called_off, left = self._jobs.cancel_open(f"part {number} of the same request did not succeed")
            look = None
            first = f"part {number} ({name}) {stopped.job['verdict']}: {stopped.words}"
            action = f"when its cause is gone, the same words with {again} --retry-failed run again only what is lost"
        if self._output.as_json:
            if look is not None:
                action = "; ".join(filter(None, [f"{look} says what to do", action, self._invocation.left_out()]))
            error = {"code": "part_stopped", "message": first, "action": action, "part": number, "execution_id": name}
            facts = {"error": error, "cancelled": called_off, "not_cancelled": left}
            self._output.document({"request": str(self._request.request_id), **facts})
            return ExitCode.FAILED
        self._output.line(first, Style.BAD)
        if called_off:
            self._output.line(f"{len(called_off)} other parts were called off")
        if left:
            self._output.line(f"these could not be called off: parts {', '.join(map(str, left))}", Style.WARNING)
        if look is not None:
            self._output.line("this says what to do:")
            self._output.command(look)
            tell_left_out(self._invocation, self._output)
        self._output.line(action)
        return ExitCode.FAILED

    def _show_plan(self, here: Mapping[int, Known], expected: Mapping[int, dict[str, Any]]) -> None:
        plan, shots = self._plan, self._request.shots
        left_out = plan.measurements_left_out
        best = "" if plan.is_minimal else "; perhaps not the least there is"
        self._output.facts(
            {
                "observable": observable_text(plan.observable),
                "measured": f"the observable; {left_out} measurements at the end are left out" if left_out else None,
                "cuts": "; ".join(_cut_text(plan)) or "none: it fits as it is",
                "overhead": f"{plan.sampling_overhead:.4g} times the shots for the same error as uncut{best}",
                "circuits": f"{len(shots)} of at most {max(plan.widths, default=0)} qubits",
                "here already": f"{len(here)} of {len(shots)}" if here else None,
                "shots": f"{sum(shots)} in all",
                "cost": Sum.of(told["estimate"] for told in expected.values()).expected(),
            }
        )
        rows = [self._piece_row(piece, expected) for piece in range(len(plan.widths))]
        self._output.table(
            ("piece", "qubits", "circuits", "shots each", "devices", "cost"), rows, empty="no circuit need be run"
        )

    def _piece_row(self, piece: int, expected: Mapping[int, dict[str, Any]]) -> tuple[object, ...]:
        numbers = [n for n, one in enumerate(self._plan.subexperiments) if one.subcircuit == piece]
        shots = [self._request.shots[number] for number in numbers]
        told = [expected[number] for number in numbers if number in expected]
        each = f"{min(shots)}" if min(shots) == max(shots) else f"{min(shots)} to {max(shots)}"
        devices = sorted({f"{one['account']}/{one['device_id']} ({one['device_type']})" for one in told})
        cost = Sum.of(one["estimate"] for one in told).expected()
        return piece, self._plan.widths[piece], len(numbers), each, ", ".join(devices) or None, cost

    def _document(self, expected: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        plan = self._plan
        parts = [
            {"number": number, "piece": one.subcircuit, "num_qubits": one.num_qubits, "shots": shots}
            | ({"expected": expected[number]} if number in expected else {})
            for number, (one, shots) in enumerate(zip(plan.subexperiments, self._request.shots, strict=True))
        ]
        return {
            "observable": dict(plan.observable),
            "measurements_left_out": plan.measurements_left_out,
            "cuts": [cut.model_dump(mode="json") for cut in plan.cuts],
            "sampling_overhead": plan.sampling_overhead,
            "is_minimal": plan.is_minimal,
            "estimate": Sum.of(told["estimate"] for told in expected.values()).document(),
            "parts": parts,
        }

    def _tell(self, value: Expectation, expected: Mapping[int, dict[str, Any]]) -> None:
        ended = [self._jobs.ended[number] for number in range(len(self._request.shots))]
        cost = Sum.of(told["cost"] for told in ended)
        if self._output.as_json:
            self._output.document(self._value_document(value, self._document(expected), ended, cost))
            return
        rows = [self._part_row(number, told) for number, told in enumerate(ended)]
        self._output.table(("part", "piece", "shots", "device", "cost", "receipt"), rows, empty="no circuit was run")
        self._output.line(f"cost {cost.paid()}")
        self._output.line("receipts:", Style.FAINT)
        self._output.command(self._invocation.again("qcompute receipts export ID"), Style.FAINT)
        tell_left_out(self._invocation, self._output)
        self._output.line(
            f"<{observable_text(self._plan.observable)}> = {value.value:.6g} ± {value.standard_error:.2g}", Style.GOOD
        )

    def _part_row(self, number: int, told: Mapping[str, Any]) -> tuple[object, ...]:
        job = told["job"]
        piece = self._plan.subexperiments[number].subcircuit
        return number, piece, job["shots"], _device(told), _cost(told), job["execution_id"]

    def _value_document(
        self, value: Expectation, planned: dict[str, Any], ended: Sequence[dict[str, Any]], cost: Sum
    ) -> dict[str, Any]:
        parts = [
            {"number": number, "execution_id": told["job"]["execution_id"], "device": _device(told)}
            | {"shots": told["job"]["shots"], "cost": told["cost"], "cost_kind": told["cost_kind"]}
            for number, told in enumerate(ended)
        ]
        return planned | {
            "request": str(self._request.request_id),
            "value": value.value,
            "standard_error": value.standard_error,
            "shots": value.shots,
            "cost": cost.document(),
            "parts": [was | now for was, now in zip(planned["parts"], parts, strict=True)],
        }


def _missing(numbers: Sequence[int], here: Mapping[int, Known], lost: Sequence[Known]) -> dict[int, int]:
    """Number and attempt of what is to be handed over."""
    worn = [part for part in lost if part.attempt + 1 >= MAX_TRIES]
    if worn:
        raise ConfigError(f"part {worn[0].number} was tried {MAX_TRIES} times: begin a new request")
    return {number: 0 for number in numbers if number not in here} | {part.number: part.attempt + 1 for part in lost}


def _cut_text(plan: CuttingPlan) -> list[str]:
    return [f"{cut.gate or 'wire'} on {'-'.join(map(str, cut.qubits))} ({cut.overhead:.4g} times)" for cut in plan.cuts]


def _device(told: Mapping[str, Any]) -> str:
    return f"{told['job']['provider']}/{told['job']['device_id']}"


def _cost(told: Mapping[str, Any]) -> str | None:
    cost = told["cost"]
    return None if cost is None else f"{cost['amount']} {cost['currency']} ({told['cost_kind']})"
