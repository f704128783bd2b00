"""A fleet that cannot work ends the start with exit code 2 and one line that names the setting, by the real entry."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from qcompute.chain.keys import create_wallet
from qcompute.miner.app import main
from qcompute.miner.settings_cli import EXIT_CONFIG, command_line
from tests.unit.settings.test_cli import clean

__all__ = ["clean"]

TOKEN: Final = "0f3a9c5b7e1d2f4a6b8c"
DESK: Final = '[[cluster.nodes]]\nprovider = "local_cpu"\nmax_qubits = 4\n'


@pytest.mark.parametrize(
    ("fleet", "flags", "told"),
    [
        ("", [], ["[[cluster.nodes]]", "cluster.builder"]),
        ('[[cluster.nodes]]\nprovider = "lokal_cpu"\n', [], ["cluster.nodes[0]", "'lokal_cpu'", "local_cpu"]),
        ('[[cluster.nodes]]\nprovider = "no_such_lab:Nodes"\n', [], ["cluster.nodes[0]", "no_such_lab"]),
        (DESK + "n_node = 2\n", [], ["cluster.nodes[0]", "n_node", "did you mean n_nodes?"]),
        (DESK + '[cluster.nodes.settings]\nspol = "x"\n', [], ["cluster account 'local_cpu'", "spol"]),
        (
            f'[[cluster.nodes]]\nprovider = "ibm_quantum"\nibm_token = "{TOKEN}"\n',
            [],
            ["cluster.nodes.0", "ibm_token", "name"],
        ),
        (
            '[[cluster.nodes]]\nprovider = "custom_rest"\nendpoints = ["http://127.0.0.1:1"]\napi_key = "forge_key"\n',
            [],
            ["cluster account 'custom_rest'", "QCOMPUTE_SECRET_FORGE_KEY"],
        ),
        (DESK + DESK + 'name = "local_cpu"\n', [], ["cluster.nodes[1]", "two accounts", "'local_cpu'"]),
        (
            DESK + 'name = "desk"\n[routing]\nfallback = ["desk", "dsk"]\n',
            [],
            ["routing.fallback", "'dsk'", "did you mean 'desk'?"],
        ),
        (
            DESK + '[routing]\nfallback = ["local_cpu/aer_automatik"]\n',
            [],
            ["routing.fallback", "local_cpu/aer_automatic'?"],
        ),
        (
            DESK + '[routing]\nfallback = ["fridge"]\n',
            [],
            ["routing.fallback", "'fridge'", "this miner has local_cpu"],
        ),
        (DESK, ["--budget.per_day", "5"], ["budget.per_day", "[cluster.nodes.budget]"]),
        (DESK + '[cluster]\nbuilder = "a:b"\n', [], ["cluster.nodes", "cluster.builder", "not both"]),
        (
            '[[cluster.nodes]]\nprovider = "tests.providers.lab_nodes:LabMachine"\nname = "lab"\nn_nodes = "two"\n',
            [],
            ["cluster account 'lab'", "TypeError", "integer"],
        ),
        ('[cluster]\nbuilder = "no_such_lab:cluster"\n', [], ["cluster.builder", "no_such_lab"]),
        (DESK + "[cluster.nodes.budget]\nper_dya = 5\n", [], ["cluster.nodes.0.budget.per_dya"]),
    ],
)
def test_a_wrong_fleet_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fleet: str, flags: list[str], told: list[str]
) -> None:
    create_wallet("miner", "default", tmp_path / "wallets")
    file = tmp_path / "fleet.toml"
    file.write_text(fleet)
    arguments = ["--config", str(file), "--provider", "cluster", "--wallet.name", "miner", *flags]
    arguments += ["--wallet.path", str(tmp_path / "wallets"), "--neuron.full_path", str(tmp_path / "data")]
    assert command_line(arguments, main) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qcompute: ")
    assert [word for word in told if word not in line] == [], line
    assert TOKEN not in line
    assert not (tmp_path / "data" / "ledger.sqlite3").exists(), "a wrong fleet opens no ledger"
