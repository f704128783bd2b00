"""A receipt is what its miner signed, and nothing else passes for one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.chain.keys import signer_from_uri
from qcompute.miner.job import Job, Verdict
from qcompute.miner.placement import Candidate, Placement, Policy
from qcompute.receipts import (
    FalseReceipt,
    UnusableReceipt,
    build_receipt,
    canonical,
    counts_sha256,
    verify_receipt,
)
from qcompute.receipts.__main__ import main
from qcompute.receipts.document import ExecutedOn
from qcompute.testing.ledger_records import failed, new_job, succeeded
from qcompute.units import ProviderKey

SIGNER = signer_from_uri("//receipt-miner")
NOW = datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC)


def job(**changes: Any) -> Job:
    new = new_job("job-1")
    made = Job(
        execution_id=new.execution_id,
        validator_hotkey=new.validator_hotkey,
        shots=new.shots,
        configuration_data={},
        received_at=NOW,
        deadline_at=NOW,
        due_at=NOW,
        verdict=Verdict.SUCCEEDED,
        provider=ProviderKey("mock"),
        settled_at=NOW,
    )
    return replace(made, **changes)


def receipt() -> str:
    outcome = replace(succeeded(), timestamps={"duration": 0.25, "nested": [1.5, None, {"x": 1e-9}]})
    return build_receipt(job(), outcome, SIGNER)


def test_what_was_signed_verifies_and_says_what_happened() -> None:
    seen = verify_receipt(receipt())
    assert (seen.execution_id, seen.verdict, seen.miner_hotkey) == ("job-1", Verdict.SUCCEEDED, SIGNER.hotkey)
    assert (seen.cost.amount, seen.cost.currency) == ("0.30000000000000004", "EUR")
    assert seen.counts_sha256 == counts_sha256({"11": 520, "00": 480})
    assert seen.timestamps["settled"] == "2026-11-21T03:04:05.678901Z"
    assert seen.timestamps["vendor"]["nested"] == ["1.5", None, {"x": "1e-09"}]


def test_it_is_canonical() -> None:
    text = receipt()
    assert canonical(json.loads(text)).decode() == text


def test_a_job_without_a_result_has_a_receipt_too() -> None:
    seen = verify_receipt(build_receipt(job(verdict=Verdict.FAILED), failed("laser off"), SIGNER))
    assert (seen.counts_sha256, seen.message, seen.cost.amount) == (None, "laser off", None)


def test_an_unsettled_job_has_none() -> None:
    with pytest.raises(ValueError, match="verdict"):
        build_receipt(job(verdict=None), succeeded(), SIGNER)


QPU = Candidate(account="ibm", device_id="torino", device_type="QPU", reason="first")
STAND_IN = Candidate(account="aer", device_id="sim", device_type="SIMULATOR", reason="next", fallback_from="a QPU")


def placed(*candidates: Candidate, **changes: Any) -> str:
    """The receipt of a job at the last of some candidates."""
    left = ("refused",) * (len(candidates) - 1)
    placement = Placement(policy=Policy.ORDER, asked="a QPU", candidates=candidates, left=left)
    there = {"provider": placement.current.account, "device_id": placement.current.device_id}
    at = job(**({"submitted_at": NOW, "placement": placement.document()} | there | changes))
    return build_receipt(at, succeeded(), SIGNER)


def test_it_says_where_the_job_was_executed() -> None:
    seen = verify_receipt(placed(QPU))
    assert seen.executed_on == ExecutedOn(account="ibm", device_id="torino", device_type="QPU")
    assert seen.fallback_from is None


def test_a_stand_in_cannot_be_passed_off_as_what_was_asked_for() -> None:
    text = placed(QPU, STAND_IN)
    seen = verify_receipt(text)
    assert seen.executed_on == ExecutedOn(account="aer", device_id="sim", device_type="SIMULATOR")
    assert seen.fallback_from == "a QPU"
    with pytest.raises(FalseReceipt):
        verify_receipt(text.replace('"fallback_from":"a QPU"', '"fallback_from":null'))


def test_a_job_that_no_vendor_had_was_executed_nowhere() -> None:
    seen = verify_receipt(placed(QPU, STAND_IN, submitted_at=None))
    assert (seen.executed_on, seen.fallback_from) == (None, None)


def test_of_another_device_than_was_chosen_the_type_is_not_guessed() -> None:
    """A job found again after a restore may be on a device the restored placement does not know of."""
    seen = verify_receipt(placed(QPU, device_id="kyiv"))
    assert seen.executed_on == ExecutedOn(account="ibm", device_id="kyiv", device_type=None)


def test_receipts_from_before_there_were_several_accounts_still_verify() -> None:
    facts = {k: v for k, v in json.loads(receipt()).items() if k not in {"executed_on", "fallback_from", "signature"}}
    signature = "0x" + SIGNER.sign(b"qcompute-receipt/1\n" + canonical(facts)).hex()
    seen = verify_receipt(canonical(facts | {"signature": signature}))
    assert (seen.executed_on, seen.fallback_from) == (None, None)


FIELDS = sorted(set(json.loads(receipt())) - {"signature", "version"})


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_can_be_changed(name: str) -> None:
    document = json.loads(receipt())
    document[name] = "changed" if document[name] is None or isinstance(document[name], str) else None
    with pytest.raises((FalseReceipt, UnusableReceipt)):
        verify_receipt(json.dumps(document))


@given(st.integers(0, len(receipt()) - 1), st.integers(1, 127))
def test_no_byte_can_be_changed(position: int, flip: int) -> None:
    data = bytearray(receipt().encode())
    data[position] ^= flip
    before = json.loads(receipt())
    try:
        seen = verify_receipt(bytes(data))
    except (FalseReceipt, UnusableReceipt):
        return
    # Randomised signatures aside, only bytes that mean the same may pass: none do in canonical JSON.
    pytest.fail(f"a changed receipt verified: {seen} {before}")


def test_another_miner_cannot_claim_it() -> None:
    document = json.loads(receipt()) | {"miner_hotkey": signer_from_uri("//another").hotkey}
    with pytest.raises(FalseReceipt):
        verify_receipt(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", "not json", '{"version": "qcompute-receipt/2"}', "[" * 100_000, '{"a": 1, "a": 2}'],
)
def test_what_is_no_receipt_is_unusable(text: str) -> None:
    with pytest.raises(UnusableReceipt):
        verify_receipt(text)


def test_a_key_must_not_stand_twice() -> None:
    text = receipt()
    with pytest.raises(UnusableReceipt):
        verify_receipt(text[:-1] + ',"verdict":"succeeded"}')


def test_a_receipt_is_never_a_signed_request() -> None:
    """The signed bytes begin with a line of their own, so no request's message can equal them."""
    assert canonical({"a": 1})[:1] == b"{"
    with pytest.raises(TypeError):
        canonical({"a": 1.5})


_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
)


@given(_VALUES)
def test_the_one_form_is_that_of_the_json_library(value: Any) -> None:
    """Receipts signed before another encoder was used must stay valid."""
    plain = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical(value) == plain.encode()


@pytest.mark.parametrize(
    ("change", "arguments", "code"),
    [
        ({}, [], 0),
        ({}, ["--hotkey", SIGNER.hotkey], 0),
        ({}, ["--hotkey", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"], 1),
        ({"shots_requested": 1}, [], 1),
        ({"verdict": "sold"}, [], 2),
    ],
)
def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], arguments: list[str], code: int
) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(json.loads(receipt()) | change))
    assert main(["verify", str(file), *arguments]) == code
    shown = capsys.readouterr()
    assert ("job-1" in shown.out) is (code == 0)
    assert bool(shown.err) is (code != 0)


def test_the_command_line_compares_counts_and_refuses_missing_files(tmp_path: Path) -> None:
    file, counts = tmp_path / "receipt.json", tmp_path / "counts.json"
    file.write_text(receipt())
    counts.write_text('{"00": 480, "11": 520}')
    assert main(["verify", str(file), "--counts", str(counts)]) == 0
    counts.write_text('{"00": 481, "11": 519}')
    assert main(["verify", str(file), "--counts", str(counts)]) == 1
    assert main(["verify", str(tmp_path / "missing.json")]) == 2
