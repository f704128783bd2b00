"""``qcompute jobs``: lists, one job in words, exports, and decisions while no daemon runs."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from qcompute.console.exit_codes import ExitCode
from qcompute.console.exporting import COLUMNS
from qcompute.console.words import road_of
from qcompute.ledger.contract import Ledger
from qcompute.ledger.memory import MemoryLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import Charge, State, Verdict
from qcompute.miner.placement import Candidate, Placement, Policy, Rejection
from qcompute.testing.ledger_records import ALICE, BOB, START_OF_TIME, accepted, brought_to, succeeded
from qcompute.units import DeviceId, Money, ProviderJobId, ProviderKey
from tests.ledger.postgres_server import ledger_database, shared_server
from tests.terminal import Terminal
from tests.unit.console.ledgers import Command, fill_ledger, filled

PLACEMENT = Placement(
    policy=Policy.CHEAPEST,
    asked="any device",
    candidates=(
        Candidate(account="ibm", device_id="torino", device_type="qpu", reason="cheapest"),
        Candidate(account="mock", device_id="one", device_type="qpu", reason="next cheapest"),
    ),
    left=("its queue was closed",),
    rejections=(Rejection(account="aer", reason="a simulator was not asked for"),),
)

SECONDS = timedelta(seconds=1)

STYLED = re.compile(r"\x1b\[[0-9;]*m")
COLOURED = re.compile(r"\x1b\[(?:[0-9]+;)*[349][0-9]m")


async def fill(ledger: Ledger) -> None:
    """One job closed, one held after a paid call, one accepted, one with words that would colour the screen."""
    submitting = await brought_to(ledger, "closed-1", State.SUBMITTING, validator=BOB)
    at = START_OF_TIME
    settled = replace(
        submitting,
        state=State.SETTLED,
        verdict=Verdict.SUCCEEDED,
        provider=ProviderKey("mock"),
        device_id=DeviceId("one"),
        provider_job_id=ProviderJobId("v-1"),
        placement=PLACEMENT.document(),
        submit_attempts=1,
        submit_started_at=at + SECONDS,
        submitted_at=at + 3 * SECONDS,
        settled_at=at + 3600 * SECONDS,
    )
    charge = Charge(ProviderKey("mock"), Money(Decimal("0.35"), "USD"), at, at)
    done = await ledger.save(submitting, settled, outcome=succeeded(), receipt='{"a": 1}', charge=charge)
    await ledger.save(done, replace(done, state=State.CLOSED))
    before = await brought_to(ledger, "held-1", State.SUBMITTING, received_at=at + 10 * SECONDS)
    held = replace(
        before,
        state=State.HELD,
        provider=ProviderKey("mock"),
        submit_started_at=at + 20 * SECONDS,
        estimate=Money(Decimal("1.50"), "USD"),
        error_code="submit_unknown",
        error="the answer was \x1b[31mlost",
    )
    await ledger.save(before, held)
    await accepted(ledger, "new-1", received_at=at + 30 * SECONDS)


@pytest.fixture(params=["sqlite", "postgres"])
def qcompute(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    """The same ledger in a file and in Postgres: every command answers both in the same words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    if request.param == "sqlite":
        yield Command(filled(tmp_path / "l", fill), capsys)
        return
    with ledger_database() as name:
        url = shared_server().url(name)
        fill_ledger(LedgerSettings(path=tmp_path / "l", url=SecretStr(url)), fill)
        yield Command(tmp_path / "l", capsys, ["--ledger.url", url])


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", ["new-1", "held-1", "closed-1"]),
        ("--state held --state closed", ["held-1", "closed-1"]),
        ("--verdict succeeded", ["closed-1"]),
        (f"--validator {BOB}", ["closed-1"]),
        ("--account mock", ["held-1", "closed-1"]),
        ("--device one", ["closed-1"]),
        ("--since 2026-11-21T02:47:01", ["new-1", "held-1"]),
        ("--text V-1", ["closed-1"]),
        ("--text %", []),
        ("--state held --device one", []),
    ],
)
def test_filters_add_up(qcompute: Command, options: str, found: list[str]) -> None:
    document = qcompute.json("jobs", "list", *options.split())
    assert [job["execution_id"] for job in document["jobs"]] == found
    assert document["total"] == len(found)
    assert document["next_offset"] is None


def test_pages_follow_one_another(qcompute: Command) -> None:
    first = qcompute.json("jobs", "list", "--limit", "2")
    assert (first["offset"], first["next_offset"], first["total"]) == (0, 2, 3)
    rest = qcompute.json("jobs", "list", "--limit", "2", "--offset", "2")
    assert ([job["execution_id"] for job in rest["jobs"]], rest["next_offset"]) == (["closed-1"], None)
    _, out, _ = qcompute("jobs", "list", "--limit", "2")
    assert "1 to 2 of 3; the next: --offset 2" in out


def test_a_list_has_whole_ids_where_it_is_no_terminal_and_nothing_moves_the_cursor(qcompute: Command) -> None:
    _, out, _ = qcompute("jobs", "list")
    (line,) = [line for line in out.splitlines() if line.startswith("held-1")]
    assert "submit_unknown: the answer was \N{REPLACEMENT CHARACTER}[31mlost" in line
    assert "\x1b" not in out


def test_a_finished_job_has_its_road_with_durations_and_the_reasons_for_its_place(qcompute: Command) -> None:
    document = qcompute.json("jobs", "show", "closed-1")
    steps = [(step["step"], step["seconds"]) for step in document["timeline"]]
    assert steps[:4] == [("received", None), ("submit started", 1.0), ("submitted", 2.0), ("settled", 3597.0)]
    assert steps[4][0] == "closed"
    assert document["charge"] == {"amount": "0.35", "currency": "USD", "is_settled": True}
    assert document["outcome"]["counts"] == {"00": 480, "11": 520}
    assert (document["choices"], document["advice"]) == ([], None)
    _, out, _ = qcompute("jobs", "show", "closed-1")
    said = " ".join(out.split())
    for words in (
        "settled 59 min 57 s succeeded",
        "left: its queue was closed: ibm/torino (cheapest)",
        "chosen: mock/one (next cheapest)",
        "not chosen: aer: a simulator was not asked for",
        "11 520 52.0%",
        "cost 0.30000000000000004 EUR (actual)",
        "counted 0.35 USD (settled)",
    ):
        assert words in said


async def test_a_job_that_was_split_is_at_no_vendor_itself() -> None:
    """Its road said "it is None there"."""
    ledger = MemoryLedger(lambda: START_OF_TIME)
    whole = replace(await accepted(ledger, "job-1"), submitted_at=START_OF_TIME + timedelta(seconds=1))
    assert [step.note for step in road_of(whole)][1:] == ["the first of its parts"]


def test_a_held_job_is_explained_with_its_choices_and_the_money_at_stake(qcompute: Command) -> None:
    document = qcompute.json("jobs", "show", "held-1")
    assert [choice["command"].split()[2] for choice in document["choices"]] == ["adopt", "release", "release", "fail"]
    assert "1.50 USD; if the vendor has it after all you pay twice" in document["choices"][2]["money"]
    _, out, _ = qcompute("jobs", "show", "held-1")
    said = " ".join(out.split())
    assert "A paid submit to mock began at 2026-11-21 02:47:11 UTC" in said
    assert "qcompute jobs release held-1 --never-submitted" in said
    # They left out which miner is meant, and looked in another folder when they were pasted.
    which = shlex.join(qcompute.flags[:2])
    assert all(f" {which}" in choice["command"] for choice in document["choices"])
    assert said.count(which) == 4
    assert "pays: what the vendor has is still to be paid: up to 1.50 USD" in said
    assert "\x1b" not in out


def test_the_choices_can_be_pasted_from_a_narrow_terminal(tmp_path: Path) -> None:
    """They were broken at its edge, in a frame: the first line, pasted, ran without the flags, on another ledger."""
    folder = tmp_path / "a folder whose name is longer than a narrow terminal is wide"
    folder.mkdir()
    flags = ["--ledger.path", str(filled(folder / "ledger.sqlite3", fill))]
    words = ["-m", "qcompute.console", "jobs", "show", "held-1", *flags]
    with Terminal(*words, environ={"HOME": str(tmp_path)}, columns=50) as terminal:
        assert terminal.ends() == 0, terminal.screen
    commands = [line.strip() for line in terminal.screen.splitlines() if line.startswith("  qcompute ")]
    assert len(commands) == 4
    assert all(shlex.split(command)[-2:] == flags for command in commands)


def test_the_keys_of_a_job_stay(qcompute: Command) -> None:
    """Programs rely on them: a key may come, none may go."""
    keys = {
        "execution_id",
        "state",
        "verdict",
        "timeline",
        "advice",
        "choices",
        "outcome",
        "parts",
        "charge",
        "estimate",
    }
    assert keys | {"error_code", "error", "provider", "device_id", "placement"} <= set(
        qcompute.json("jobs", "show", "new-1")
    )


def test_an_unknown_job_is_told_in_one_line(qcompute: Command) -> None:
    code, out, err = qcompute("jobs", "show", "nope")
    assert (code, out) == (1, "")
    assert err.startswith("qcompute: there is no job nope in ")


def test_an_unknown_job_ends_every_command_in_the_same_way(qcompute: Command) -> None:
    """`receipts export nope` and `jobs tail nope` ended with 2, `jobs show nope` with 1: no script could rely on it."""
    words = ("show nope", "tail nope", "cancel nope", "retry-delivery nope", "release nope")
    words += ("fail nope --reason lost", "adopt nope vendors-1")
    for line in (*(f"jobs {word}" for word in words), "receipts export nope"):
        code, out, err = qcompute(*line.split(), "--json")
        assert (code, json.loads(out)["error"]["code"]) == (ExitCode.FAILED, "command_refused"), line
        assert "nope" in err


def test_an_id_that_is_no_text_is_refused(qcompute: Command) -> None:
    """Bytes on the command line that are not UTF-8 ended in a traceback."""
    for command in (("jobs", "show", "\udcff"), ("jobs", "list", "--text", "\udcff"), ("receipts", "export", "\udcff")):
        code, out, err = qcompute(*command)
        assert (code, out) == (2, "")
        assert "not UTF-8" in err


def test_where_there_is_no_ledger_no_file_is_made_for_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "out"
    code, _, err = Command(tmp_path / "nothing", capsys)("jobs", "export", "--to", str(file))
    assert (code, "there is no ledger" in err, file.exists()) == (2, True, False)


def test_an_export_is_json_lines_or_csv(qcompute: Command, tmp_path: Path) -> None:
    _, out, _ = qcompute("jobs", "export", "--state", "closed", "--state", "held")
    assert [json.loads(line)["execution_id"] for line in out.splitlines()] == ["closed-1", "held-1"]
    _, out, _ = qcompute("jobs", "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["execution_id"] for row in rows] == ["closed-1", "held-1", "new-1"]
    assert tuple(rows[0]) == COLUMNS
    file = tmp_path / "out.jsonl"
    assert qcompute.json("jobs", "export", "--to", str(file))["count"] == 3
    assert len(file.read_text().splitlines()) == 3
    code, _, err = qcompute("jobs", "export", "--to", str(file))
    assert (code, "name a new file" in err) == (2, True)
    assert qcompute.json("jobs", "export", "--validator", ALICE)["total"] == 2


def test_a_spreadsheet_runs_nothing_a_vendor_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def with_formula(ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        await ledger.save(job, replace(job, error_code="x", error='=HYPERLINK("http://evil")'))

    monkeypatch.setenv("HOME", str(tmp_path))
    _, out, _ = Command(filled(tmp_path / "l", with_formula), capsys)("jobs", "export", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["error"].startswith("'=")


def test_a_finished_job_is_followed_to_its_end_and_all_for_a_while(qcompute: Command) -> None:
    code, out, _ = qcompute("jobs", "tail", "closed-1", "--json")
    (line,) = out.splitlines()
    assert (code, json.loads(line)["state"], json.loads(line)["verdict"]) == (0, "closed", "succeeded")
    code, out, _ = qcompute("jobs", "tail", "--for", "0")
    assert code == 0
    assert {line.split()[1] for line in out.splitlines()} >= {"held-1", "new-1"}


@pytest.mark.parametrize(("width", "is_table"), [("100", True), ("60", False), ("20", False)])
def test_a_narrow_terminal_gets_lists_that_fit(
    qcompute: Command, monkeypatch: pytest.MonkeyPatch, width: str, *, is_table: bool
) -> None:
    def always() -> bool:
        return True

    monkeypatch.setattr("sys.stdout.isatty", always)
    environment: Mapping[str, Any] = {"COLUMNS": width, "TERM": "xterm", "NO_COLOR": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for command in (("jobs", "list"), ("jobs", "show", "held-1"), ("jobs", "show", "closed-1")):
        code, out, _ = qcompute(*command)
        assert code == 0
        assert not COLOURED.search(out)
        lines = [line for line in STYLED.sub("", out).splitlines() if not line.startswith("  qcompute ")]
        assert max(map(len, lines)) <= int(width), command
    out = STYLED.sub("", qcompute("jobs", "list")[1])
    assert ("ID " in out.splitlines()[0] and "STATE" in out.splitlines()[0]) is is_table


def test_receipts_come_out_as_they_were_signed(qcompute: Command, tmp_path: Path) -> None:
    assert qcompute("receipts", "export") == (0, '{"a": 1}\n', "")
    assert qcompute.json("receipts", "export", "--to", str(tmp_path / "r"))["receipts"] == ["closed-1"]
    assert (tmp_path / "r" / "closed-1.json").read_text() == '{"a": 1}'
    code, _, err = qcompute("receipts", "export", "held-1")
    assert (code, "has not ended yet" in err) == (1, True)


def test_money_is_read_from_the_ledger_when_no_daemon_runs(qcompute: Command) -> None:
    document = qcompute.json("budget", "--provider", "mock", "--budget.per_month", "10")
    (account,) = document["accounts"]
    assert (document["from"], account["account"], account["reserved"]) == ("ledger", "mock", "0")
    assert set(account["periods"]) == {"day", "month"}
    assert set(account["periods"]["month"]) == {"limit", "committed", "left"}
    assert qcompute("budget")[1].splitlines()[0].split()[:2] == ["ACCOUNT", "PERIOD"]
