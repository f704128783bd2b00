"""Which store the settings name, and what it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from qcompute.errors import ConfigError
from qcompute.ledger import open_ledger
from qcompute.ledger.settings import LedgerSettings


def test_a_url_without_the_driver_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("qcompute.ledger.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("psycopg", "psycopg.conninfo", "psycopg.types.numeric"):
        monkeypatch.setitem(sys.modules, module, None)
    settings = LedgerSettings(path=tmp_path / "l", url=SecretStr("postgresql://u@127.0.0.1/d"))
    with pytest.raises(ConfigError, match=r"pip install 'qcompute\[postgres\]'"):
        open_ledger(settings)


def test_the_key_lies_beside_the_file_unless_it_is_put_elsewhere(tmp_path: Path) -> None:
    settings = LedgerSettings(path=tmp_path / "l.sqlite3")
    assert settings.key == tmp_path / "l.sqlite3.key"
    assert settings.model_copy(update={"key_file": Path("~/k")}).key == Path("~/k").expanduser()


def test_the_url_is_in_no_text_of_the_settings(tmp_path: Path) -> None:
    settings = LedgerSettings(path=tmp_path / "l", url=SecretStr("postgresql://u:hidden@127.0.0.1/d"))
    assert "hidden" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
