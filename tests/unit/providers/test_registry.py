"""Adapters are found by name without being imported, and what is wrong is said in words that help."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.errors import CannotRun, ConfigError
from qcompute.miner.providers import registry
from qcompute.miner.providers.base import CannotTell, ProviderAdapter, submit_takes
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import IdempotencyToken, Money
from tests.providers.reference_style import MyQpuAdapter


def test_the_folder_is_the_list() -> None:
    assert {"aer", "mock"} <= set(registry.keys())
    assert not {"base", "registry", "__init__"} & set(registry.keys())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"PROVIDER='mok' is not a provider \(did you mean 'mock'\?\)"):
        registry.open_adapter("mok")


def test_a_wrong_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"providers\.mock\.laency_seconds.*did you mean latency_seconds\?"):
        registry.open_adapter("mock", {"laency_seconds": 1})


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> None:
        del name

    monkeypatch.setattr(registry.importlib.util, "find_spec", find_spec)
    with pytest.raises(ConfigError, match=r"needs qiskit_aer, which is not installed: `pip install 'qcompute\[aer\]'`"):
        registry.open_adapter("aer")
    problems = {str(info.key): info.problem for info in registry.available()}
    assert "not installed" in (problems["aer"] or "")
    assert problems["mock"] is None


def test_an_adapter_of_the_reference_is_plugged_in_by_path_or_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    by_path = registry.open_adapter("tests.providers.reference_style:MyQpuAdapter")
    assert isinstance(by_path, ProviderAdapter)
    registry.register("my_qpu", MyQpuAdapter)
    assert registry.open_adapter("my_qpu").list_devices()[0].device_id == "my_qpu"
    with pytest.raises(ConfigError, match="exists already"):
        registry.register("my_qpu", MyQpuAdapter)
    with pytest.raises(ConfigError, match="exists already"):
        registry.register("mock", MyQpuAdapter)


@pytest.mark.parametrize(
    ("path", "words"),
    [("no.such.module:X", "cannot be imported"), ("tests.providers.reference_style:Nope", "has no Nope")],
)
def test_a_path_that_leads_nowhere(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        registry.open_adapter(path)


def test_what_lacks_methods_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {"half": object})
    with pytest.raises(ConfigError, match="lacks list_devices, list_capabilities"):
        registry.open_adapter("half")


def test_settings_for_an_adapter_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {"my_qpu": MyQpuAdapter})
    with pytest.raises(ConfigError, match="has no settings"):
        registry.open_adapter("my_qpu", {"key": "x"})


def test_two_of_one_name_are_both_named_and_neither_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stray package must not take over a vendor's name, and with it the vendor's key."""

    def announced(group: str) -> list[EntryPoint]:
        return [EntryPoint("mock", "stray.package:Mock", group)]

    monkeypatch.setattr(registry, "entry_points", announced)
    with pytest.raises(ConfigError, match=r"2 providers are named 'mock' \(stray\.package:Mock"):
        registry.open_adapter("mock")


def test_an_installed_package_announces_its_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    def announced(group: str) -> list[EntryPoint]:
        return [EntryPoint("their_qpu", "tests.providers.reference_style:MyQpuAdapter", group)]

    monkeypatch.setattr(registry, "entry_points", announced)
    assert "their_qpu" in list(registry.keys())
    assert registry.open_adapter("their_qpu").list_devices()[0].device_id == "my_qpu"


def test_a_module_that_is_broken_is_another_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Path]:
        return {"ruin": Path("ruin.py")}

    monkeypatch.setattr(registry, "_folder", broken)
    with pytest.raises(ConfigError, match="provider 'ruin' is broken: its module cannot be imported"):
        registry.open_adapter("ruin")
    assert [info.problem is not None for info in registry.available() if info.key == "ruin"] == [True]


def test_looking_at_all_of_them_imports_no_sdk() -> None:
    script = (
        "import sys\nfrom qcompute.miner.providers.registry import available\navailable()\n"
        "assert not [m for m in sys.modules if m.startswith(('qiskit', 'boto', 'azure.'))]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == 0, done.stderr


def test_no_such_provider_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'zzz' is not a provider\. Known: .*aer.*mock") as caught:
        registry.open_adapter("zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"fail_rate": 2}, r"providers\.mock\.fail_rate: .*less than or equal to 1"), ({"seed": "SECRET"}, "mock.seed")],
)
def test_a_setting_out_of_range_is_named_and_its_value_is_not_shown(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        registry.open_adapter("mock", settings)
    assert "SECRET" not in str(caught.value)


def test_an_announced_adapter_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def announced(group: str) -> list[EntryPoint]:
        return [EntryPoint("theirs", "no.such.module:X", group), EntryPoint("other", "tests:Nope", group)]

    monkeypatch.setattr(registry, "entry_points", announced)
    for key in ("theirs", "other"):
        with pytest.raises(ConfigError, match=f"provider '{key}' of .* cannot be imported"):
            registry.open_adapter(key)


def test_what_is_wrong_with_one_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def announced(group: str) -> list[EntryPoint]:
        return [EntryPoint("mock", "stray.package:Mock", group)]

    monkeypatch.setattr(registry, "entry_points", announced)
    problems = {str(info.key): info.problem for info in registry.available()}
    assert "2 providers are named 'mock'" in (problems["mock"] or "")
    assert problems["aer"] is None


def test_the_nine_methods_are_enough_and_the_rest_is_given() -> None:
    adapter = registry.open_adapter("tests.providers.reference_style:MyQpuAdapter")
    device = adapter.list_devices()[0]
    handle = adapter.submit("OPENQASM 2.0;", "my_qpu", 7)
    assert [status.status for status in adapter.poll_many([handle, handle])] == ["RUNNING", "RUNNING"]
    assert isinstance(adapter.find(IdempotencyToken("t"), datetime.now(UTC)), CannotTell)
    prepared = adapter.prepare(ASYMMETRIC, device, 7, JobOptions())
    assert prepared.payload == ASYMMETRIC.source
    assert adapter.estimate(prepared, device, 7) == Money(Decimal("0.01"), "USD")
    assert submit_takes(adapter) == frozenset()
    with pytest.raises(CannotRun, match="9 qubits and my_qpu has 8"):
        adapter.check(ASYMMETRIC.model_copy(update={"num_qubits": 9}), device, 7)


class Bare(MyQpuAdapter):
    def get_capability(self, device_id: str | None = None) -> None:
        del device_id

    def get_availability(self, device_id: str | None = None) -> None:
        del device_id

    def get_pricing(self, device_id: str | None = None) -> None:
        del device_id


def test_what_is_not_known_stays_not_known() -> None:
    adapter = registry.as_adapter(Bare())
    device = adapter.list_devices()[0]
    assert (adapter.get_capability(), adapter.get_availability(), adapter.get_pricing()) == (None, None, None)
    adapter.check(ASYMMETRIC.model_copy(update={"num_qubits": 4000}), device, 7)
    assert adapter.estimate(adapter.prepare(ASYMMETRIC, device, 7, JobOptions()), device, 7) is None


def test_an_adapter_may_take_the_token_alone() -> None:
    assert submit_takes(registry.open_adapter("mock")) == {"token"}


def test_a_list_may_come_as_text_with_commas() -> None:
    """From a flag or a variable: the settings page promises it, and pydantic alone takes no text for a list."""
    adapter = registry.open_adapter("rest", {"base_urls": "https://a.example, https://b.example"})
    assert [device.device_id for device in adapter.list_devices()] == ["rest_1", "rest_2"]
    adapter.close()


def test_a_missing_namespace_is_a_missing_module() -> None:
    """``find_spec("a.b")`` raises where there is no ``a``: the list of providers ended in a traceback without Azure."""
    assert not registry._is_there("no_such_namespace.module")
    assert registry._is_there("json.decoder")
