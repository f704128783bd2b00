"""Plain REST: settings."""

from __future__ import annotations

from typing import Any

import pytest

from qcompute.errors import (
    ConfigError,
)
from qcompute.miner.providers.registry import open_adapter
from tests.doubles.rest import TOKEN


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "at least one endpoint"),
        ({"base_urls": ["ftp://a"]}, "http(s)://"),
        ({"base_urls": ["http://"]}, "http(s)://"),
        ({"base_urls": ["http://a:99999"]}, "http(s)://"),
        ({"base_urls": ["http://[a"]}, "http(s)://"),
        ({"base_urls": ["http://a?key=1"]}, "http(s)://"),
        ({"base_urls": ["http://me:pw@a"]}, "no password"),
        ({"base_urls": ["http://a", "http://a/"]}, "named twice"),
        ({"base_urls": ["http://a"], "nodes": {"rest_1": {"url": "http://b"}}}, "named like"),
        ({"nodes": {"No Good": {"url": "http://b"}}}, "pattern"),
        ({"nodes": {"b": {"url": "http://b", "color": "red"}}}, "Extra"),
        ({"base_urls": ["http://a"], "token": "rest"}, "QCOMPUTE_SECRET_REST"),
        ({"base_urls": ["http://a"], "idempotency": "tag"}, "'token' or 'none'"),
        ({"base_urls": ["http://a"], "dialect": "qpy"}, "openqasm2"),
        ({"base_urls": ["http://a"], "run_path": "run"}, "pattern"),
        ({"base_urls": ["http://a"], "token_name": "x"}, "did you mean token"),
        (
            {
                "base_urls": ["http://a"],
                "prices": {"currency": "EUR"},
                "nodes": {"b": {"url": "http://b", "prices": {"currency": "USD"}}},
            },
            "one currency",
        ),
    ],
)
def test_settings_that_cannot_be(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_adapter("rest", table)
    assert said in caught.value.message
    assert "pw" not in caught.value.message


def test_opened_as_the_daemon_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_REST", TOKEN)
    adapter = open_adapter("rest", {"base_urls": "http://a:8888, https://b/api/", "token": "rest"})
    assert [device.device_id for device in adapter.list_devices()] == ["rest_1", "rest_2"]
    assert TOKEN not in repr(adapter) + repr(vars(adapter))
    adapter.close()


def test_a_token_no_header_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_REST", "line one\nline two")
    with pytest.raises(ConfigError, match="Authorization"):
        open_adapter("rest", {"base_urls": "http://a", "token": "rest"})
