"""Which simulations are short, and who leaves the line with whom."""

from __future__ import annotations

import threading

import pytest

from qcompute.circuits.parse import describe
from qcompute.circuits.settings import CircuitSettings
from qcompute.vendor.aer.methods import Method
from qcompute.vendor.aer.waiting import TOGETHER, WaitingLine, is_short
from tests.unit.vendor.test_aer_memory import chain

HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\n'


@pytest.mark.parametrize(
    ("qubits", "method", "shots", "short"),
    [
        (5, Method.AUTOMATIC, 1000, True),
        (18, Method.STATEVECTOR, 1000, True),
        (24, Method.STATEVECTOR, 1, False),
        (8, Method.DENSITY_MATRIX, 1000, True),
        (12, Method.DENSITY_MATRIX, 1, False),
        (5, Method.MATRIX_PRODUCT_STATE, 1, False),
        (5, Method.TENSOR_NETWORK, 1, False),
        (5, None, 1, False),
    ],
)
def test_a_few_gates_on_a_few_amplitudes_are_short(
    qubits: int, method: Method | None, shots: int, *, short: bool
) -> None:
    assert is_short(chain(qubits), method, shots) is short


@pytest.mark.parametrize("method", [Method.AUTOMATIC, Method.STABILIZER])
def test_a_tableau_costs_by_the_shot(method: Method) -> None:
    counts = {"h": 1, "cx": 19, "measure": 20}
    ghz = chain(20).model_copy(update={"gate_counts": counts})
    assert is_short(ghz, method, 1000)
    assert not is_short(ghz, method, 10_000)


@pytest.mark.parametrize("body", ["measure q[0]->c[0];x q[0];measure q->c;", "measure q->c;if(c==1) x q[0];"])
def test_what_is_simulated_anew_for_each_shot_is_not_short(body: str) -> None:
    assert not is_short(describe(HEAD + body, CircuitSettings()), Method.AUTOMATIC, 1)


def filled(workers: int, *jobs: str) -> WaitingLine:
    """Those in capitals are long."""
    line = WaitingLine(workers)
    for job in jobs:
        line.add(job, is_short=job.islower())
    return line


def test_short_ones_leave_together_and_long_ones_alone_in_their_order() -> None:
    line = filled(1, "a", "b", "C", "D", "e")
    assert [line.take(waits=True) for _ in range(4)] == [["a", "b"], ["C"], ["D"], ["e"]]
    assert line.take(waits=False) == []


def test_each_worker_gets_as_many() -> None:
    assert filled(2, "a", "b", "c").take(waits=True) == ["a", "b"]
    assert filled(4, "a", "b", "c").take(waits=True) == ["a"]
    assert len(filled(1, *(["x"] * 100)).take(waits=True)) == TOGETHER


def test_what_is_put_back_is_next_and_alone() -> None:
    line = filled(1, "a", "b", "c")
    line.put_back(line.take(waits=True))
    assert [line.take(waits=True) for _ in range(3)] == [["a"], ["b"], ["c"]]


def test_who_waits_gets_what_comes_and_goes_when_it_is_closed() -> None:
    line, got = WaitingLine(2), list[list[str]]()
    workers = [threading.Thread(target=lambda: got.append(line.take(waits=True))) for _ in range(2)]
    for worker in workers:
        worker.start()
    line.add("a", is_short=True)
    line.close()
    for worker in workers:
        worker.join(10)
    assert [] in got
    assert line.take(waits=True) == []
