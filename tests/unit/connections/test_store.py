"""Credentials in the keyring, in the encrypted file, in the environment: which is used, and what is never shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.backends.null import Keyring as NullKeyring

from qcompute.connections.credentials import checked_value, named, trying
from qcompute.connections.settings import ConnectionSettings, StoreKind
from qcompute.connections.store import CredentialStore
from qcompute.connections.vault import REKEYED, Vault
from qcompute.errors import ConfigError

VALUE = "sk-live-4242"
ROOT = Path(__file__).parents[3]


def settings(folder: Path, kind: StoreKind = StoreKind.AUTO) -> ConnectionSettings:
    return ConnectionSettings(store=kind, key_file=folder / "key")


def store(folder: Path, kind: StoreKind = StoreKind.AUTO) -> CredentialStore:
    return CredentialStore(settings(folder, kind), folder)


def by_passphrase(folder: Path, passphrase: str) -> Vault:
    return Vault(folder / "vault.json", None, lambda: passphrase)


# ---- which place ----


def test_the_keyring_is_used_where_one_works(tmp_path: Path, keyring_file: Path) -> None:
    ours = store(tmp_path)
    assert ours.put("acme", f" {VALUE}\n") == "the keyring"
    assert ours.where("acme").place == "the keyring"
    assert VALUE in keyring_file.read_text()
    assert not ours.vault.path.exists()
    ours.install()
    assert named("acme").reveal() == VALUE


def test_two_miners_of_one_user_do_not_share_a_keyrings_credentials(tmp_path: Path, keyring_file: Path) -> None:
    del keyring_file
    store(tmp_path / "one").put("acme", VALUE)
    assert store(tmp_path / "other").where("acme").place is None


@pytest.mark.parametrize("backend", [NoKeyring, NullKeyring])
def test_a_server_without_a_keyring_has_the_encrypted_file(
    tmp_path: Path, use_keyring: Callable[[KeyringBackend], Path], backend: Callable[[], KeyringBackend]
) -> None:
    use_keyring(backend())
    ours = store(tmp_path)
    assert ours.put("acme", VALUE) == f"the encrypted file {tmp_path / 'credentials.json'}"
    ours.install()
    assert named("acme").reveal() == VALUE


def test_a_keyring_that_forgets_is_none(tmp_path: Path, forgetful_keyring: Path) -> None:
    del forgetful_keyring
    ours = store(tmp_path)
    assert "encrypted file" in ours.put("acme", VALUE)
    assert "does not keep what it is given" in ours.chain()[0]
    with pytest.raises(ConfigError, match=r"set connections\.store to file"):
        store(tmp_path, StoreKind.KEYRING).put("acme", VALUE)


def test_a_locked_keyring_is_said_and_nothing_else_taken(
    tmp_path: Path, keyring_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old value in a variable must not be used because the keyring with the new one happens to be locked."""
    ours = store(tmp_path)
    ours.put("acme", VALUE)
    ours.install()
    monkeypatch.setenv("QCOMPUTE_SECRET_ACME", "the old one")
    keyring_file.with_name("keyring.json.locked").touch()
    with pytest.raises(ConfigError, match=r"does not answer \(KeyringLocked\): unlock it"):
        named("acme")


def test_the_environment_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_ACME", "from the environment")
    ours = store(tmp_path, StoreKind.FILE)
    ours.install()
    assert named("acme").reveal() == "from the environment"
    assert ours.where("acme").place == "the environment (QCOMPUTE_SECRET_ACME)"
    ours.put("acme", VALUE)
    assert named("acme").reveal() == VALUE
    assert ours.remove("acme")
    assert named("acme").reveal() == "from the environment"


def test_with_store_environment_nothing_is_stored(tmp_path: Path) -> None:
    ours = store(tmp_path, StoreKind.ENVIRONMENT)
    with pytest.raises(ConfigError, match=r"connections\.store is environment"):
        ours.put("acme", VALUE)
    assert ours.chain() == ["the environment (QCOMPUTE_SECRET_NAME)"]


def test_a_value_moves_to_the_place_that_is_used_now(tmp_path: Path, keyring_file: Path) -> None:
    """Else a file that was written before there was a keyring would keep the old key for ever."""
    del keyring_file
    store(tmp_path, StoreKind.FILE).put("acme", "old")
    ours = store(tmp_path)
    ours.put("acme", VALUE)
    assert ours.vault.names() == []


def test_a_missing_secret_names_the_places_and_the_command(tmp_path: Path) -> None:
    store(tmp_path, StoreKind.FILE).install()
    with pytest.raises(ConfigError, match=r"'acme' is not set.*connections rotate.*SECRET_ACME.*credentials\.json"):
        named("acme")


def test_trying_a_value_changes_nothing_kept(tmp_path: Path) -> None:
    ours = store(tmp_path, StoreKind.FILE)
    ours.put("acme", VALUE)
    ours.install()
    with trying({"acme": "new"}):
        assert named("acme").reveal() == "new"
    assert named("acme").reveal() == VALUE


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_value_is_no_secret(text: str) -> None:
    with pytest.raises(ConfigError, match="empty"):
        checked_value(text)


# ---- the encrypted file ----


def test_the_file_shows_names_and_no_value_and_is_ours_alone(tmp_path: Path) -> None:
    vault = by_passphrase(tmp_path, "correct horse")
    vault.put("acme", VALUE)
    vault.put("other", "x")
    text = vault.path.read_text()
    assert VALUE not in text
    assert vault.names() == ["acme", "other"]
    assert vault.path.stat().st_mode & 0o777 == 0o600
    assert repr(vault).count("horse") == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["vault.json", "vault.json.lock"]
    again = by_passphrase(tmp_path, "correct horse")
    assert (again.get("acme"), again.get("nothing")) == (VALUE, None)
    assert again.remove("acme")
    assert not again.remove("acme")
    assert again.names() == ["other"]


def test_a_wrong_passphrase_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    by_passphrase(tmp_path, "correct horse").put("acme", VALUE)
    before = (tmp_path / "vault.json").read_bytes()
    wrong = by_passphrase(tmp_path, "battery staple")
    refusal = f"the passphrase does not open {tmp_path / 'vault.json'}; nothing was changed; {REKEYED}"
    for act in (lambda: wrong.get("acme"), lambda: wrong.put("other", "x")):
        with pytest.raises(ConfigError) as refused:
            act()
        assert refused.value.message == refusal
    assert (tmp_path / "vault.json").read_bytes() == before


def test_a_value_cannot_be_given_another_name(tmp_path: Path) -> None:
    """Whoever may write the file but has no key could else make the daemon send one vendor's key to another."""
    vault = by_passphrase(tmp_path, "x")
    vault.put("acme", VALUE)
    document = json.loads(vault.path.read_text())
    document["values"]["other"] = document["values"]["acme"]
    vault.path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="'other' is another's"):
        vault.get("other")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"version": 2}'])
def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    vault = by_passphrase(tmp_path, "x")
    vault.path.write_text(content)
    vault.path.chmod(0o600)
    with pytest.raises(ConfigError, match="no file of credentials, or damaged"):
        vault.put("acme", VALUE)
    assert vault.path.read_text() == content


def test_files_that_others_may_read_are_refused(tmp_path: Path) -> None:
    ours = store(tmp_path, StoreKind.FILE)
    ours.put("acme", VALUE)
    ours.vault.path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 640\): chmod 600"):
        ours.where("acme")
    ours.vault.path.chmod(0o600)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"key_file.*mode 644\): chmod 600"):
        store(tmp_path, StoreKind.FILE).value("acme")


def test_the_kind_of_key_is_said_when_the_other_is_given(tmp_path: Path) -> None:
    by_passphrase(tmp_path, "x").put("acme", VALUE)
    with pytest.raises(ConfigError, match=r"unset connections\.key_file"):
        Vault(tmp_path / "vault.json", tmp_path / "key", lambda: "x").get("acme")
    keyed = store(tmp_path, StoreKind.FILE)
    keyed.put("acme", VALUE)
    with pytest.raises(ConfigError, match=r"set connections\.key_file"):
        Vault(keyed.vault.path, None, lambda: "x").get("acme")
    with pytest.raises(ConfigError, match="cannot be read"):
        Vault(keyed.vault.path, tmp_path / "gone", lambda: "x").get("acme")


def test_without_anybody_to_ask_the_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_passphrase(tmp_path, "x").put("acme", VALUE)
    daemon = CredentialStore(ConnectionSettings(store=StoreKind.FILE, file=tmp_path / "vault.json"), tmp_path)
    with pytest.raises(ConfigError, match=r"QCOMPUTE_SECRET_CREDENTIAL_STORE_FILE.*or connections\.key_file"):
        daemon.value("acme")
    monkeypatch.setenv("QCOMPUTE_SECRET_CREDENTIAL_STORE", "x")
    assert daemon.value("acme") == VALUE


WRITER = """
import sys
from pathlib import Path
from qcompute.connections.vault import Vault
vault = Vault(Path(sys.argv[1]), Path(sys.argv[2]), lambda: "")
for number in range(int(sys.argv[4])):
    vault.put(f"{sys.argv[3]}_{number}", "value")
"""


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault.json", tmp_path / "key", lambda: "")
    vault.put("first", "value")
    command = [sys.executable, "-c", WRITER, str(vault.path), str(tmp_path / "key")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    writers = [subprocess.Popen([*command, name, "25"], env=environment) for name in ("one", "two")]  # noqa: S603 - ours
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(vault.names()) == 51
