"""Nothing that may be a secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qcompute.miner.settings_show import shown


@pytest.mark.parametrize(
    "name", ["api_key", "key", "token", "aws_secret_access_key", "password", "APIKEY", "authToken"]
)
def test_values_with_a_secret_s_name_are_masked(name: str) -> None:
    assert shown(("providers", "x", name), "s3cret") == "***"
    assert shown(("providers", "x", name, "inner"), 12345) == "***"
    assert "s3cret" not in shown(("providers", "x"), {"a": {name: ["s3cret"]}})


@pytest.mark.parametrize("name", ["hotkey", "allowed_hotkeys", "port"])
def test_public_names_are_not(name: str) -> None:
    assert shown(("wallet", name), "5F") == '"5F"'


def test_an_empty_secret_is_seen_to_be_empty() -> None:
    assert shown(("providers", "x", "token"), "") == '""'


@pytest.mark.parametrize(
    ("url", "visible"),
    [
        ("https://h.example/path", '"https://h.example/path"'),
        ("https://u:p@h.example:8/path", '"https://***@h.example:8/path"'),
        ("https://h.example/?X-Sig=abc#f", '"https://h.example/?***#***"'),
        ("http://[bad", '"***"'),
        ("postgresql://u:p/w@h.example/db", '"postgresql://***"'),
        ("postgresql://u:p#w@h.example/db", '"postgresql://***"'),
        ("postgresql://u:p?w@h.example/db", '"postgresql://***"'),
        ("postgresql://u:p@w@h.example/db", '"postgresql://***@h.example/db"'),
        ("postgresql://u:p@a/w@h.example/db", '"postgresql://***"'),
    ],
)
def test_urls_lose_user_query_and_fragment(url: str, visible: str) -> None:
    assert shown(("jobserver", "url"), url) == visible
    assert shown(("ledger", "url"), SecretStr(url)) == visible


def test_a_secret_that_is_no_url_is_masked() -> None:
    assert shown(("ledger", "url"), SecretStr("host=h password=p")) == "***"


@given(st.text("abcdef0123456789", min_size=8))
def test_no_password_of_a_url_is_shown(secret: str) -> None:
    assert secret not in shown(("x",), [f"https://user:{secret}@example.org/?t={secret}"])


def test_plain_values() -> None:
    assert shown(("a",), None) == "none"
    assert shown(("a",), value=True) == "true"
    assert shown(("a",), 1.0) == "1.0"
    assert shown(("a",), Path("/x")) == "/x"
    assert shown(("a",), ("b", 1)) == '["b", 1]'
