"""What each vendor's adapter says of its account without spending, and each way it can fail in words of its own."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from qcompute.connections.checks import checked, is_usable
from qcompute.connections.definitions import Definition
from qcompute.connections.findings import Finding, Grade, Subject, failure
from qcompute.errors import AuthFailed, BadReply, ConfigError, QuotaSpent, Refused, Unavailable
from qcompute.miner.providers.base import ProviderAdapter
from tests.doubles.kits import VENDORS, Kit, kit
from tests.doubles.vendor import VendorDouble

SAYS = {
    "ibm": {Subject.IDENTITY: "the instance crn:", Subject.QUOTA: "1 s of quantum time", Subject.COST_LIMIT: "300 s"},
    "braket": {Subject.IDENTITY: "AWS account 123456789012", Subject.COST_LIMIT: "Amazon keeps to no limit"},
    "azure": {Subject.IDENTITY: "the workspace", Subject.QUOTA: "jobs: 0 of "},
    "ionq": {Subject.IDENTITY: "the key 'miner key' of project project-7", Subject.COST_LIMIT: "no limit of ours"},
    "rest": {Subject.REACHABLE: "it answers, and lets us in"},
}


def definition(kit_: Kit, double: VendorDouble, **changes: Any) -> Definition:
    return Definition(provider=kit_.key, settings=kit_.table(double) | changes)


def look(
    kit_: Kit, one: Definition, folder: Path, monkeypatch: pytest.MonkeyPatch, double: VendorDouble, **values: str
) -> list[Finding]:
    for name, value in kit_.variables(double).items():
        monkeypatch.setenv(name, value)
    return checked("one", one, folder, values=values)


def text_of(findings: list[Finding], subject: Subject) -> str:
    return "; ".join(one.text for one in findings if one.subject is subject)


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_vendor_says_who_we_are_and_what_limits_us(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit_ = kit(vendor)
    with kit_.double() as double:
        limits: dict[str, int] | None = getattr(double, "limits", None)
        if vendor == "azure" and limits is not None:
            limits.setdefault("ionq", 100)
        findings = look(kit_, definition(kit_, double), tmp_path, monkeypatch, double)
        assert is_usable(findings), findings
        for subject, words in SAYS[vendor].items():
            assert words in text_of(findings, subject), findings
        assert text_of(findings, Subject.DEVICES)
        assert double.created == 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_wrong_key_is_said_and_never_shown(vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit_ = kit(vendor)
    with kit_.double() as double:
        wrong = {name: "wrong-" + value[6:] for name, value in kit_.secrets.items()}
        findings = look(kit_, definition(kit_, double), tmp_path, monkeypatch, double, **wrong)
        bad = [one for one in findings if one.grade is Grade.FAILED]
        assert [one.subject for one in bad] == [Subject.IDENTITY], findings
        assert "the key is not accepted" in bad[0].text
        assert "rotate" in bad[0].fix
        assert not [value for value in wrong.values() if value in str(findings)]


@pytest.mark.parametrize("vendor", ["rest", "ionq"])
def test_nothing_at_the_address(vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit_ = kit(vendor)
    with kit_.double() as double, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        changes: dict[str, Any] = {"base_urls": [nowhere]} if vendor == "rest" else {"url": nowhere}
        findings = look(kit_, definition(kit_, double, **changes), tmp_path, monkeypatch, double)
        bad = [one for one in findings if one.grade is Grade.FAILED]
        assert [one.subject for one in bad] == [Subject.REACHABLE]
        assert "no network, or nothing is at that address" in bad[0].text


@pytest.mark.parametrize(
    ("error", "subject", "words"),
    [
        (AuthFailed("AWS says no", vendor_code="ExpiredTokenException"), Subject.IDENTITY, "the key has expired"),
        (AuthFailed("IBM answered 400: Provided API key is expired"), Subject.IDENTITY, "the key has expired"),
        (AuthFailed("no", vendor_code="RequestTimeTooSkewed"), Subject.IDENTITY, "this machine's clock is wrong"),
        (AuthFailed("no", vendor_code="OptInRequired"), Subject.IDENTITY, "may not use this region"),
        (AuthFailed("lab answered 403"), Subject.IDENTITY, "the key is known and may not do this"),
        (AuthFailed("lab answered 401"), Subject.IDENTITY, "the key is not accepted"),
        (Unavailable("lab cannot be reached (ConnectError)"), Subject.REACHABLE, "no network"),
        (Unavailable("no answer from lab (ReadTimeout)"), Subject.REACHABLE, "it does not answer in time"),
        (Unavailable("lab answered 503"), Subject.REACHABLE, "it cannot answer now"),
        (QuotaSpent("the month is used up"), Subject.QUOTA, "nothing may be spent"),
        (Refused("lab answered 404"), Subject.SETTINGS, "does not know what we ask for"),
        (BadReply("a web page"), Subject.REACHABLE, "not as this vendor"),
        (ConfigError("providers.rest.token: missing"), Subject.SETTINGS, "providers.rest.token"),
    ],
)
def test_each_cause_has_its_own_words_and_a_fix(error: Any, subject: Subject, words: str) -> None:
    found = failure(error)
    assert (found.subject, found.grade) == (subject, Grade.FAILED)
    assert words in found.text
    assert found.fix


def test_a_key_that_is_right_and_refused_later_is_of_another_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit_ = kit("ionq")
    with kit_.double() as double:

        def refused(_: ProviderAdapter) -> Any:
            yield Finding(Subject.IDENTITY, Grade.OK, "we are known")
            raise AuthFailed("UnrecognizedClientException in eu-north-1")

        one = definition(kit_, double)
        monkeypatch.setattr("qcompute.miner.providers.ionq.IonqAdapter.check_connection", refused)
        findings = look(kit_, one, tmp_path, monkeypatch, double)
        assert "the key is right and is not let in there" in findings[-1].text
        assert "correct the region" in findings[-1].fix


def test_an_adapter_that_raises_anything_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: ProviderAdapter) -> Any:
        raise KeyError("secret text")

    monkeypatch.setattr("qcompute.miner.providers.mock.MockAdapter.check_connection", broken)
    findings = checked("one", Definition(provider="mock"), tmp_path)
    assert findings[-1].text == "the adapter raised KeyError"
    assert not is_usable(findings)


def test_a_definition_that_cannot_be_opened_names_the_connection(tmp_path: Path) -> None:
    findings = checked("one", Definition(provider="mock", settings={"sede": 1}), tmp_path)
    assert findings[0].subject is Subject.SETTINGS
    assert "connection one: providers.mock.sede" in findings[0].text
