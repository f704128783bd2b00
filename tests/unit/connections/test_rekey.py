"""``qcompute connections rekey``: the encrypted file gets another passphrase or key file, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qcompute.connections.settings import ConnectionSettings, StoreKind
from qcompute.connections.store import CredentialStore
from qcompute.connections.vault import KeyKind, Vault
from qcompute.console.__main__ import main
from qcompute.errors import ConfigError
from tests.terminal import ROOT, Terminal

OLD, NEW = "correct horse", "battery staple"
VALUES = {"acme": "sk-live-4242", "other": "sk-live-4343"}
VARIABLE = "QCOMPUTE_SECRET_CREDENTIAL_STORE"


def by_passphrase(folder: Path, passphrase: str) -> Vault:
    return Vault(folder / "credentials.json", None, lambda: passphrase)


def by_key(folder: Path, key: str = "key") -> Vault:
    return Vault(folder / "credentials.json", folder / key, lambda: "")


def filled(vault: Vault) -> bytes:
    for name, value in VALUES.items():
        vault.put(name, value)
    return vault.path.read_bytes()


def opens(vault: Vault) -> bool:
    """Whether every value can be read; a file that opens for some of them alone is an error."""
    try:
        vault.prove()
    except ConfigError:
        return False
    assert {name: vault.get(name) for name in vault.names()} == VALUES
    assert vault.path.stat().st_mode & 0o777 == 0o600
    return True


def flags(folder: Path, **more: str) -> list[str]:
    given = {"neuron.full_path": str(folder), "connections.store": "file"} | more
    return ["--provider", "mock", *(word for name, value in given.items() for word in (f"--{name}", value))]


def typed(folder: Path, *words: str, **more: str) -> int:
    return main(["connections", "rekey", *words, *flags(folder, **more)])


# ---- each way from one key to another ----


def test_a_new_passphrase_by_lines_and_the_old_one_is_none_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(by_passphrase(tmp_path, OLD))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{OLD}\n{NEW}\n"))
    assert typed(tmp_path, "--stdin", "--json") == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["file"], told["opens_with"]) == (str(tmp_path / "credentials.json"), KeyKind.PASSPHRASE)
    assert [note for note in told["notes"] if f"set {VARIABLE}_FILE" in note]
    assert (opens(by_passphrase(tmp_path, OLD)), opens(by_passphrase(tmp_path, NEW))) == (False, True)
    assert OLD not in said.out + said.err
    assert NEW not in said.out + said.err


def test_the_old_one_from_a_variable_the_new_one_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(by_passphrase(tmp_path, OLD))
    monkeypatch.setenv(VARIABLE, OLD)
    (tmp_path / "new").write_text(f"{NEW}\n")
    assert typed(tmp_path, "--value-file", str(tmp_path / "new")) == 0
    assert f"{VARIABLE} or {VARIABLE}_FILE still has another passphrase" in capsys.readouterr().out
    assert opens(by_passphrase(tmp_path, NEW))


def test_from_a_passphrase_to_a_key_file_that_is_made_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(by_passphrase(tmp_path, OLD))
    key = tmp_path / "keys" / "key"
    monkeypatch.setenv(VARIABLE, OLD)
    assert typed(tmp_path, "--key-file", str(key)) == 0
    said = capsys.readouterr().out
    assert f"set connections.key_file to {key}" in said
    assert f"{VARIABLE} is not needed any more" in said
    assert key.stat().st_mode & 0o777 == 0o600
    assert opens(by_key(tmp_path, "keys/key"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{NEW}\n"))
    assert typed(tmp_path, "--stdin", **{"connections.key_file": str(key)}) == 0
    assert "unset connections.key_file" in capsys.readouterr().out
    assert opens(by_passphrase(tmp_path, NEW))


def test_the_setting_may_name_the_key_file_before_the_file_opens_with_it(tmp_path: Path) -> None:
    """Whoever sets connections.key_file first was told to unset it again before anything could be changed."""
    filled(by_passphrase(tmp_path, OLD))
    kept = ConnectionSettings(store=StoreKind.FILE, key_file=tmp_path / "key")
    CredentialStore(kept, tmp_path, ask=lambda: OLD).resealing(tmp_path / "key").seal(None)
    assert opens(by_key(tmp_path))


def test_from_one_key_file_to_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(by_key(tmp_path))
    ours = {"connections.key_file": str(tmp_path / "key")}
    assert typed(tmp_path, "--key-file", str(tmp_path / "key"), **ours) == 2
    assert "opens" in capsys.readouterr().err
    assert typed(tmp_path, "--key-file", str(tmp_path / "next"), **ours) == 0
    assert f"delete the old key file {tmp_path / 'key'}" in capsys.readouterr().out
    assert (opens(by_key(tmp_path)), opens(by_key(tmp_path, "next"))) == (False, True)


# ---- a daemon that has the file open ----


def test_a_new_key_in_the_old_one_s_place_is_read_again(tmp_path: Path) -> None:
    """It kept the old key for as long as it lived, and took every value for one that somebody had changed."""
    filled(by_key(tmp_path))
    daemon = by_key(tmp_path)
    assert daemon.get("acme") == VALUES["acme"]
    by_key(tmp_path).reseal(by_key(tmp_path, "next"))
    with pytest.raises(
        ConfigError, match=r"the key in .* does not open .*after `qcompute connections rekey` put the new"
    ):
        daemon.get("acme")
    (tmp_path / "next").rename(tmp_path / "key")
    assert opens(daemon)


def test_a_new_passphrase_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(by_passphrase(tmp_path, OLD))
    (tmp_path / "passphrase").write_text(OLD)
    (tmp_path / "passphrase").chmod(0o600)
    monkeypatch.setenv(f"{VARIABLE}_FILE", str(tmp_path / "passphrase"))
    daemon = CredentialStore(ConnectionSettings(store=StoreKind.FILE), tmp_path)
    assert daemon.value("acme") == VALUES["acme"]
    by_passphrase(tmp_path, OLD).reseal(by_passphrase(tmp_path, NEW))
    with pytest.raises(ConfigError, match=r"the passphrase does not open .* or restart the daemon"):
        daemon.value("acme")
    (tmp_path / "passphrase").write_text(NEW)
    assert daemon.value("acme") == VALUES["acme"]


def test_another_kind_of_key_needs_a_restart(tmp_path: Path) -> None:
    filled(by_passphrase(tmp_path, OLD))
    daemon = by_passphrase(tmp_path, OLD)
    daemon.prove()
    by_passphrase(tmp_path, OLD).reseal(by_key(tmp_path))
    with pytest.raises(ConfigError, match=r"set connections\.key_file to it, and restart the daemon"):
        daemon.get("acme")


# ---- what is refused ----


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (f"{NEW}\n{OLD}\n", "the passphrase does not open"),
        (f"{OLD}\n\n", "an empty passphrase protects nothing"),
        (f"{OLD}\n {NEW}\n", "no space around it"),
        (OLD, "an empty passphrase protects nothing"),
    ],
)
def test_what_will_not_do_is_one_line_and_changes_nothing(
    tmp_path: Path, lines: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = filled(by_passphrase(tmp_path, OLD))
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert typed(tmp_path, "--stdin") == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert not {OLD, NEW} & set(said.err.split("'"))
    assert (tmp_path / "credentials.json").read_bytes() == before


def test_without_a_file_a_key_or_a_terminal_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(tmp_path, "--stdin") == 2
    assert "is not there yet" in capsys.readouterr().err
    filled(by_key(tmp_path))
    assert typed(tmp_path, "--stdin") == 2
    assert "set connections.key_file to it" in capsys.readouterr().err
    assert typed(tmp_path, "--key-file", "a", "--value-file", "b") == 2
    assert "not both" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert typed(tmp_path, **{"connections.key_file": str(tmp_path / "key")}) == 2
    assert "no terminal to ask at: use --stdin or --value-file" in capsys.readouterr().err


# ---- a kill at the worst time ----

KILLED = """
import os, signal, sys
from pathlib import Path
from qcompute.connections.vault import Vault

def killed(draft, target):
    if target.name == "credentials.json":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(draft, target)

real, Path.replace = Path.replace, killed
file, old, new, key = sys.argv[1:]
Vault(Path(file), None, lambda: old).reseal(Vault(Path(file), Path(key) if key else None, lambda: new))
"""


@pytest.mark.parametrize("key", ["", "key"])
def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path, key: str) -> None:
    """The new file is on disk and not in place: the old one opens, and the next try is not disturbed."""
    before = filled(by_passphrase(tmp_path, OLD))
    file = tmp_path / "credentials.json"
    words = [str(file), OLD, NEW, str(tmp_path / key) if key else ""]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, timeout=60, check=False)  # noqa: S603 - ours
    assert done.returncode == -signal.SIGKILL
    assert file.read_bytes() == before
    (draft,) = tmp_path.glob("*.draft")
    assert draft.stat().st_mode & 0o777 == 0o600
    assert not any(value in draft.read_text() for value in VALUES.values())
    assert opens(by_passphrase(tmp_path, OLD))
    by_passphrase(tmp_path, OLD).reseal(by_key(tmp_path) if key else by_passphrase(tmp_path, NEW))
    assert opens(by_key(tmp_path) if key else by_passphrase(tmp_path, NEW))
    assert list(tmp_path.glob("*.draft")) == []


# ---- at a terminal ----


def test_a_terminal_asks_for_the_old_one_and_twice_for_the_new_one_and_shows_none(tmp_path: Path) -> None:
    filled(by_passphrase(tmp_path, OLD))
    words = ["-m", "qcompute.console", "connections", "rekey", *flags(tmp_path)]
    with Terminal(*words, environ={"HOME": str(tmp_path)}) as terminal:
        terminal.shows(f"passphrase of {tmp_path / 'credentials.json'}: ")
        terminal.types(OLD)
        terminal.shows(f"new passphrase of {tmp_path / 'credentials.json'}: ")
        terminal.types(NEW)
        terminal.shows("again: ")
        process = Path(f"/proc/{terminal.pid}")
        told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        terminal.types(NEW)
        assert terminal.ends() == 0, terminal.screen
    assert "opens with the new passphrase now" in terminal.screen
    for secret in (OLD, NEW, *VALUES.values()):
        assert secret not in terminal.screen
        assert secret.encode() not in told
    assert opens(by_passphrase(tmp_path, NEW))


def test_a_slip_at_the_terminal_changes_nothing(tmp_path: Path) -> None:
    before = filled(by_passphrase(tmp_path, OLD))
    answers = [OLD, NEW, "battery stable"]
    told = ["-m", "qcompute.console", "connections", "rekey", *flags(tmp_path)]
    with Terminal(*told, environ={"HOME": str(tmp_path)}) as terminal:
        for answer, prompt in zip(answers, ("json: ", "json: ", "again: "), strict=True):
            terminal.shows(prompt)
            terminal.types(answer)
        assert terminal.ends() == 2
    assert "the two passphrases differ" in terminal.screen
    assert not [answer for answer in answers if answer in terminal.screen]
    assert (tmp_path / "credentials.json").read_bytes() == before
