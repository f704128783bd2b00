"""A secret is found by its name in two places, and shown in none."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.connections import credentials
from qcompute.connections.credentials import Secret, checked_name, resolve, variable_of
from qcompute.errors import ConfigError

VALUE = "sk-live-42"


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: Secret
    other: Secret | None = None


class Defaulted(BaseModel):
    api_key: Secret = Field(default="acme", validate_default=True)


def kept(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    file = folder / "key"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return file


# ---- where it comes from ----


def test_from_the_environment() -> None:
    secret = resolve("acme_eu2", {"QCOMPUTE_SECRET_ACME_EU2": f" {VALUE}\n"})
    assert (secret.name, secret.reveal()) == ("acme_eu2", VALUE)
    assert variable_of("acme_eu2") == "QCOMPUTE_SECRET_ACME_EU2"


def test_from_a_file(tmp_path: Path) -> None:
    file = kept(tmp_path, f"{VALUE}\n")
    assert resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": str(file)}).reveal() == VALUE


def test_from_a_file_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    kept(tmp_path, VALUE, 0o400)
    assert resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": "~/key"}).reveal() == VALUE


def test_from_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer ones show them as mode 440, because an access list's mask looks like rights of the group.

    They were refused as readable by others, with the advice to chmod what nobody may chmod.
    """
    file = kept(tmp_path, VALUE, 0o440)
    named = {"QCOMPUTE_SECRET_ACME_FILE": str(file)}
    with pytest.raises(ConfigError, match="mode 440"):
        resolve("acme", named)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert resolve("acme", named).reveal() == VALUE
    file.chmod(0o444)
    with pytest.raises(ConfigError, match="mode 444"):
        resolve("acme", named)


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    given = {"QCOMPUTE_SECRET_ACME": VALUE, "QCOMPUTE_SECRET_ACME_FILE": str(tmp_path / "absent")}
    assert resolve("acme", given).reveal() == VALUE


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    given = {"QCOMPUTE_SECRET_ACME": " ", "QCOMPUTE_SECRET_ACME_FILE": str(kept(tmp_path, VALUE))}
    assert resolve("acme", given).reveal() == VALUE


def test_no_other_variable_is_read() -> None:
    with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_ACME, or QCOMPUTE_SECRET_ACME_FILE"):
        resolve("acme", {"ACME": VALUE, "ACME_API_KEY": VALUE, "QCOMPUTE_SECRET_ACME2": VALUE})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_a_file_others_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    file = kept(tmp_path, VALUE, mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {file}") as caught:
        resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": str(file)})
    assert VALUE not in caught.value.message
    assert f"{mode:o}" in caught.value.message


@pytest.mark.parametrize("content", ["", " \n\t", b"\xff\xfe\x00bad", "x" * (credentials._MAX_CHARACTERS + 1)])
def test_a_file_that_holds_no_secret(tmp_path: Path, content: str | bytes) -> None:
    file = kept(tmp_path, content)
    with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_ACME_FILE") as caught:
        resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": str(file)})
    assert len(caught.value.message) < 1000


def test_a_long_secret_is_whole(tmp_path: Path) -> None:
    """A private key has many lines; none may be lost."""
    content = "-----BEGIN KEY-----\n" + "x" * 60_000 + "\n-----END KEY-----"
    assert resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": str(kept(tmp_path, content))}).reveal() == content


@pytest.mark.parametrize("place", ["absent", ".", "absent/key"])
def test_a_file_that_cannot_be_read(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": str(tmp_path / place)})


def test_a_home_nobody_has() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve("acme", {"QCOMPUTE_SECRET_ACME_FILE": "~no-such-user-here/key"})


# ---- its name ----


@pytest.mark.parametrize("name", ["", "Acme", "a-b", "2fast", "a/b", "sk-live-42", "a" * 65, "a\n", "ä"])
def test_what_is_no_name_is_not_repeated(name: str) -> None:
    """Whoever writes the key where its name belongs must not find it in a log."""
    with pytest.raises(ConfigError) as caught:
        resolve(name, {})
    assert len(name) < 3 or name not in caught.value.message


@given(st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True), st.text(min_size=1).filter(str.strip))
def test_any_name_any_value(name: str, value: str) -> None:
    assert resolve(name, {variable_of(name): value}).reveal() == value.strip()


# ---- where it is shown ----


def test_printing_shows_the_name() -> None:
    secret = Secret("acme", VALUE)
    assert repr(secret) == str(secret) == f"{secret}" == "Secret('acme')"
    assert VALUE not in repr([secret]) + repr({"a": secret})


def test_it_is_neither_pickled_nor_copied_nor_extended() -> None:
    secret = Secret("acme", VALUE)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copied(secret)
    with pytest.raises(AttributeError):
        secret.spare = 1  # pyright: ignore[reportAttributeAccessIssue] - that is the point
    assert not hasattr(secret, "__dict__")


# ---- as a field ----


def test_a_field_is_given_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_ACME", VALUE)
    config = Config.model_validate({"api_key": "acme"})
    assert config.api_key.reveal() == VALUE
    assert config.other is None
    assert VALUE not in repr(config) + str(config)
    assert Config(api_key=config.api_key).api_key is config.api_key


def test_a_dump_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_ACME", VALUE)
    config = Config.model_validate({"api_key": "acme"})
    assert config.model_dump() == {"api_key": "acme", "other": None}
    assert json.loads(config.model_dump_json()) == {"api_key": "acme", "other": None}
    assert Config.model_validate_json(config.model_dump_json()).api_key.reveal() == VALUE


def test_a_default_is_a_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_ACME", VALUE)
    assert Defaulted().api_key.reveal() == VALUE


def test_a_field_that_cannot_be_filled_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOMPUTE_SECRET_ACME", raising=False)
    monkeypatch.delenv("QCOMPUTE_SECRET_ACME_FILE", raising=False)
    for wrong, said in (("acme", "set QCOMPUTE_SECRET_ACME"), ("sk-live-42", "no name"), (42, "by its name")):
        with pytest.raises(ValidationError) as caught:
            Config.model_validate({"api_key": wrong})
        (problem,) = caught.value.errors(include_input=False, include_url=False)
        assert problem["loc"] == ("api_key",)
        assert said in problem["msg"]
        assert "sk-live" not in problem["msg"]


# ---- a name, or the secret itself ----


@pytest.mark.parametrize("name", ["acme", "ibm_lab", "aws_secret_access_key", "ibm_2026_berlin_lab", "lab2"])
def test_a_name_is_taken_for_one(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "value", ["0f3a9c5b7e1d2f4a6b8c", "a1b2c3d4e5f6a7b8", "qwertyuiopasdfghjklzxcvbnm", "Sk-Live", "", None, 5]
)
def test_what_looks_like_a_secret_is_refused_unseen(value: object) -> None:
    """Keys in small hexadecimal digits were taken for names, and stood in the error that no such secret is set."""
    with pytest.raises(ValueError, match=r"QCOMPUTE_SECRET_<NAME>") as raised:
        checked_name(value)
    assert not value or str(value) not in str(raised.value)
    if isinstance(value, str):
        with pytest.raises(ConfigError) as told:
            resolve(value, {})
        assert not value or value not in str(told.value).lower()
