"""What ``qcompute connections`` does: plain functions, for the command line and for whoever else writes a front end.

None of them prints, asks or shows a value. A running daemon is told through its socket (ADR 0014); without one the
files alone are changed, and it finds them at its next start.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict

from qcompute.cluster.accounts import connected_slots, open_account, slots_of
from qcompute.cluster.connected import credentials_of
from qcompute.cluster.slot import Slot
from qcompute.connections.checks import checked, found_at, is_usable
from qcompute.connections.credentials import checked_name as checked_credential
from qcompute.connections.credentials import (
    checked_value,
    environment_value,
    secret_fields,
    secrets_in,
    variable_of,
)
from qcompute.connections.definitions import CHOICE, FILE, Choice, Definition, Definitions, checked_name
from qcompute.connections.findings import Finding
from qcompute.connections.store import PASSPHRASE, CredentialStore
from qcompute.connections.vault import Ask, KeyKind
from qcompute.errors import ConfigError, QComputeError
from qcompute.miner.commands import AboutAccounts, Reopen, Use, socket_file, tell_daemon
from qcompute.miner.job import State
from qcompute.miner.opening import CLUSTER, SHARED, nodes_by_connection, refuse_node, refuse_provider_name
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import config_of, keys
from qcompute.miner.settings import Settings

PATIENCE_SECONDS: Final = 150.0
"""How long the daemon may open and look at a connection before it counts as not answering."""

_OPEN_STATES: Final = (State.SUBMITTING, State.WAITING, State.HELD)


class ConnectionRefused(QComputeError):
    """This cannot be done with this connection now; nothing was changed."""

    code = "connection_refused"


@dataclass(frozen=True, slots=True)
class Field:
    """A credential of a provider: what its setting is called, and whether it cannot do without."""

    name: str
    is_required: bool


class Row(BaseModel):
    """One connection in the list. ``credentials`` says by setting which credential it is and where it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    provider: str
    in_use: bool
    credentials: dict[str, str]
    places: dict[str, str | None]


class HomeRow(BaseModel):
    """The provider of the settings, whose ``[providers.X]`` table names its credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str
    credentials: dict[str, str]
    places: dict[str, str | None]


class NodeRow(BaseModel):
    """One account of the cluster; ``connection`` gives its credentials, where it names one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    provider: str
    connection: str | None
    credentials: dict[str, str]
    places: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Changed:
    """What was done: what was found on the way, where values lie now, and what the operator should know."""

    findings: list[Finding]
    places: dict[str, str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """The encrypted file has another key: what opens it now, and what the operator must do before the next start."""

    file: Path
    kind: KeyKind
    notes: list[str]


class Connections:
    """The connections of one miner. ``ask`` gives the passphrase of the encrypted file where one is needed."""

    def __init__(self, settings: Settings, *, ask: Ask | None = None) -> None:
        self._settings = settings
        self.folder: Path = settings.neuron.directory
        self.definitions = Definitions(self.folder / FILE)
        self.choice = Choice(self.folder / CHOICE)
        self.store = CredentialStore(settings.connections, self.folder, ask=ask)
        self.store.install()

    def fields(self, provider: str) -> list[Field]:
        """The credentials a provider takes.

        Raises:
            ConfigError: there is no such provider.
        """
        model = config_of(provider)
        return [] if model is None else [Field(*one) for one in secret_fields(model).items()]

    def add(
        self,
        name: str,
        definition: Definition,
        *,
        values: Mapping[str, str],
        untested: bool = False,
    ) -> Changed:
        """Write a connection down and keep the values of its credentials, given by the credential's setting.

        Raises:
            ConfigError: name, provider, settings or a place will not do; nothing was kept.
            ConnectionRefused: it was looked at and cannot be used; nothing was kept.
        """
        refuse_provider_name(checked_name(name))
        if name in self.definitions.all():
            raise ConfigError(f"there is a connection {name!r} already; remove it first, or take another name")
        definition.own_budget(name)
        by_credential, settings = self._named(name, definition, values)
        whole = definition.model_copy(update={"settings": settings})
        if not untested:
            self._require_values(name, whole, by_credential)
        findings = checked(name, whole, self.folder, values=by_credential)
        _refuse_unusable(name, findings, untested=untested)
        places = {credential: self.store.put(credential, value) for credential, value in by_credential.items()}
        try:
            self.definitions.add(name, whole)
        except ConfigError:
            for credential in places:
                self.store.remove(credential)
            raise
        return Changed(findings, places, [])

    def rows(self) -> list[Row]:
        """Every connection, and where its credentials are; no value is read that need not be."""
        in_use = self.in_use()
        return [self._row(name, definition, name == in_use) for name, definition in self.definitions.all().items()]

    def home_row(self) -> HomeRow | None:
        """The provider of the settings and where its credentials are; None where it takes none, or is a connection.

        Raises:
            ConfigError: there is no such provider, or a place cannot be read.
        """
        provider = self._settings.provider
        if not self._is_home(provider) or not self.fields(provider):
            return None
        credentials = self._credentials(self._definition(provider))
        return HomeRow(provider=provider, credentials=credentials, places=self._places(credentials))

    def node_rows(self) -> list[NodeRow]:
        """Every account of the cluster and where its credentials are; none where there is no cluster.

        Raises:
            ConfigError: the fleet cannot be read, or an account in it cannot work.
        """
        if self._settings.provider != CLUSTER:
            return []
        written = slots_of(self._settings.cluster)
        whole = connected_slots(self._settings.cluster, self.folder)
        return [self._node_row(slot, credentials_of(one)) for slot, one in zip(written, whole, strict=True)]

    def in_use(self) -> str:
        """What new jobs go to, or will at the daemon's next start: a connection, or PROVIDER."""
        return self.choice.read() or self._settings.provider

    def test(self, name: str) -> list[Finding]:
        """Look at a connection, PROVIDER, or an account of the cluster, without spending.

        May take minutes where a vendor does not answer.
        """
        return self._found(name)

    def use(self, name: str, *, unchecked: bool = False) -> str:
        """Let new jobs go to a connection, or with PROVIDER's name back to the settings; what came of it, in words.

        Raises:
            ConfigError, ConnectionRefused: it cannot be used; nothing was changed.
        """
        is_home = name == self._settings.provider
        if not is_home:
            self.definitions.get(name)
            refuse_node(self._settings, name)
        if self._settings.ledger.url is not None:
            raise ConnectionRefused(SHARED)
        told = self._tell(Use(name=name, unchecked=unchecked))
        if told is not None:
            return f"new jobs go to {', '.join(told['accounts'])} now; jobs that were submitted stay where they are"
        if not is_home and not unchecked:
            _refuse_unusable(name, self.test(name), untested=False)
        self.choice.write(None if is_home else name)
        return f"no daemon is running; the next one starts with {name}"

    def rotate(self, name: str, field: str | None, value: str, *, untested: bool = False) -> Changed:
        """Keep a new value of a credential. It is tried first; a running daemon takes it up; then the old one is gone.

        With PROVIDER's name, or that of an account of the cluster, it is one that its table in the settings names.

        Raises:
            ConfigError: there is no such connection or credential, or it cannot be kept.
            ConnectionRefused: it does not work; the old value is kept.
        """
        credential = self._credential(name, field)
        value = checked_value(value)
        _refuse_unusable(name, findings := self._found(name, {credential: value}), untested=untested)
        old, users = self.store.value(credential), self._users(credential)
        place = self.store.put(credential, value)
        notes = self._taken_up(credential, old, users)
        if environment_value(credential) not in (None, value):
            notes.append(f"the variable {variable_of(credential)} is not looked at any more: unset it")
        return Changed(findings, {credential: place}, notes)

    def environment_value(self, name: str, field: str | None) -> str:
        """What the environment has for a credential of a connection. Raises `ConfigError` when it has nothing."""
        credential = self._credential(name, field)
        if (value := environment_value(credential)) is None:
            raise ConfigError(f"{variable_of(credential)} is not set, so there is nothing to take over")
        return value

    def rekey(self, key_file: Path | None, new_passphrase: Ask) -> Rekeyed:
        """Let another key file or passphrase open the encrypted file; the present one must open it first.

        ``new_passphrase`` is asked only when that was seen, and not where there is a ``key_file``.

        Raises:
            ConfigError: see `CredentialStore.resealing` and `Resealing.seal`; the file is as it was.
        """
        if key_file is not None:
            key_file = key_file.expanduser().absolute()
        resealing = self.store.resealing(key_file)
        passphrase = new_passphrase() if key_file is None else None
        resealing.seal(passphrase)
        kind = KeyKind.PASSPHRASE if key_file is None else KeyKind.KEY_FILE
        notes = self._for_passphrase(passphrase) if passphrase is not None else self._for_key_file(key_file)
        old = resealing.now.key_file
        notes.append(_for_daemon(old, key_file))
        if old is not None:
            notes.append(f"delete the old key file {old} when no backup needs it")
        return Rekeyed(resealing.now.path, kind, notes)

    def _for_passphrase(self, passphrase: str) -> list[str]:
        variable = variable_of(PASSPHRASE)
        is_named = self._settings.connections.key_file is not None
        notes = ["unset connections.key_file: a passphrase opens the file now"] if is_named else []
        known = environment_value(PASSPHRASE)
        if known is None:
            notes.append(f"the daemon cannot ask: set {variable}_FILE to a file that holds the passphrase (mode 0600)")
        elif known != passphrase:
            notes.append(f"{variable} or {variable}_FILE still has another passphrase: give it the new one")
        return notes

    def _for_key_file(self, key_file: Path | None) -> list[str]:
        known = self._settings.connections.key_file
        is_known = known is not None and known.expanduser().absolute() == key_file
        notes = [] if is_known else [f"set connections.key_file to {key_file}"]
        if environment_value(PASSPHRASE) is not None:
            notes.append(f"{variable_of(PASSPHRASE)} is not needed any more: unset it")
        return notes

    def remove(self, name: str, *, keep_credentials: bool = False) -> list[str]:
        """Forget a connection, and the credentials no other one names; their names.

        Raises:
            ConfigError: there is none of this name.
            ConnectionRefused: new jobs go there, or jobs are there that are not done.
            StoreError: the ledger cannot be asked whether there are any.
        """
        definition = self.definitions.get(name)
        if name in (self.in_use(), self._settings.provider):
            raise ConnectionRefused(f"new jobs go to {name}: `qcompute connections use` another one first")
        if nodes := nodes_by_connection(self._settings).get(name):
            raise ConnectionRefused(f"the account {nodes[0]} of the cluster is from {name}: take its table out first")
        if count := self._open_jobs(name):
            raise ConnectionRefused(f"{count} jobs at {name} are not done yet; see qcompute jobs list")
        mine = set(self._credentials(definition).values())
        self.definitions.remove(name)
        others = {one for other in self.definitions.all().values() for one in self._credentials(other).values()}
        return [] if keep_credentials else [one for one in sorted(mine - others) if self.store.remove(one)]

    def _require_values(self, name: str, definition: Definition, given: Mapping[str, str]) -> None:
        """See that each credential of a connection to be made is given or kept; `rotate` does not know it yet."""
        credentials, fields = self._credentials(definition), {field.name for field in self.fields(definition.provider)}
        for setting, credential in credentials.items():
            if setting not in fields or credential in given or not _is_name(credential):
                continue
            if self.store.where(credential).place is None:
                raise ConfigError(
                    f"{setting} of {name} has no value: give it with --stdin, --value-file {setting}=FILE or "
                    f"--from-environment, or name a credential that is kept with --credential {setting}=NAME"
                )

    def _named(
        self, name: str, definition: Definition, values: Mapping[str, str]
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Values by credential, and the settings with the credentials' names in them."""
        fields = [field.name for field in self.fields(definition.provider)]
        settings = dict(definition.settings)
        by_credential: dict[str, str] = {}
        for field, value in values.items():
            if field not in fields:
                there = f"its credentials are: {', '.join(fields)}" if fields else "it has no credentials"
                raise ConfigError(f"{field!r} is no credential of {definition.provider}; {there}")
            credential = settings.setdefault(field, f"{name}_{field}".replace("-", "_"))
            try:
                by_credential[checked_credential(credential)] = checked_value(value)
            except ValueError as error:
                raise ConfigError(f"{field}: {error}") from None
        return by_credential, settings

    def _credentials(self, definition: Definition) -> dict[str, str]:
        """The names of a connection's credentials, by setting."""
        model = config_of(definition.provider)
        return {} if model is None else secrets_in(model, definition.settings)

    def _credential(self, name: str, field: str | None) -> str:
        node = self._node(name)
        known = self._credentials(self._definition(name)) if node is None else credentials_of(node)
        if field is None and len(known) == 1:
            return next(iter(known.values()))
        if field is None or field not in known:
            there = f"say which: {', '.join(known)}" if known else "it has none"
            if not known and self._is_home(name) and (takes := self.fields(name)):
                there = f"give one a name in the settings first: providers.{name}.{takes[0].name}"
            what = f"connection {name}" if node is None and not self._is_home(name) else name
            raise ConfigError(f"{what} has {len(known)} credentials; {there}")
        return known[field]

    def _is_home(self, name: str) -> bool:
        """Whether this is the settings' own account, with its table in them: PROVIDER may be a connection's name."""
        return name == self._settings.provider != CLUSTER and (":" in name or name in keys())

    def _definition(self, name: str) -> Definition:
        if self._is_home(name):
            return Definition(provider=name, settings=self._settings.provider_table)
        if name == CLUSTER == self._settings.provider:
            raise ConfigError("the cluster has several accounts: name one, as `qcompute connections list` has it")
        return self.definitions.get(name)

    def _node(self, name: str) -> Slot | None:
        """The account of the cluster that has this name and its credentials from its own table; None: there is none.

        Raises:
            ConfigError: the fleet cannot be read, or the account has its credentials from a connection.
        """
        if self._settings.provider != CLUSTER or name in self.definitions.all():
            return None
        found = next((slot for slot in slots_of(self._settings.cluster) if slot.name == name), None)
        if found is not None and found.connection is not None:
            raise ConfigError(
                f"the account {name} of the cluster has its credentials from a connection: name it, {found.connection}"
            )
        return found

    def _found(self, name: str, values: Mapping[str, str] | None = None) -> list[Finding]:
        """What is found there, with these values in place of those that are kept."""
        if (node := self._node(name)) is not None:
            return found_at(partial(self._opened, node), node.provider, node.settings, values=values)
        return checked(name, self._definition(name), self.folder, values=values, is_home=self._is_home(name))

    def _opened(self, node: Slot) -> ProviderAdapter:
        if (plan := open_account(self._settings.cluster, self.folder, node.name)) is None:
            raise ConfigError(f"there is no account {node.name} in the cluster any more")
        return plan.adapter

    def _places(self, credentials: dict[str, str]) -> dict[str, str | None]:
        return {one: self.store.where(one).place for one in credentials.values()}

    def _row(self, name: str, definition: Definition, in_use: bool) -> Row:  # noqa: FBT001 - a fact of the row
        credentials = self._credentials(definition)
        places = self._places(credentials)
        return Row(name=name, provider=definition.provider, in_use=in_use, credentials=credentials, places=places)

    def _node_row(self, slot: Slot, credentials: dict[str, str]) -> NodeRow:
        places = self._places(credentials)
        return NodeRow(
            name=slot.name, provider=slot.provider, connection=slot.connection, credentials=credentials, places=places
        )

    def _users(self, credential: str) -> list[str]:
        """The connections and accounts of the settings that have this credential.

        Raises:
            ConfigError: the connections or the fleet cannot be read.
        """
        known = self.definitions.all()
        if self._is_home(self._settings.provider):
            known[self._settings.provider] = self._definition(self._settings.provider)
        users = [one for one, other in known.items() if credential in self._credentials(other).values()]
        slots = slots_of(self._settings.cluster) if self._settings.provider == CLUSTER else ()
        own = (slot for slot in slots if slot.connection is None)
        return users + [slot.name for slot in own if credential in credentials_of(slot).values()]

    def _taken_up(self, credential: str, old: str | None, users: Sequence[str]) -> list[str]:
        """Let a running daemon take the new value up at each of ``users``; the old one is put back if it does not.

        A value has been tried, but a daemon may see another network.
        """
        notes: list[str] = []
        for user in users:
            try:
                told = self._tell(Reopen(name=user))
            except (ConfigError, ConnectionRefused) as error:
                if old is None or environment_value(credential) == old:
                    self.store.remove(credential)
                else:
                    self.store.put(credential, old)
                raise ConnectionRefused(f"the daemon goes on with the old value: {error.message}") from None
            if told is None:
                return ["no daemon is running"]
            notes.append(f"{user}: " + ("taken up by the daemon" if told["reopened"] else "not open in the daemon"))
        return notes

    def _tell(self, command: AboutAccounts) -> dict[str, Any] | None:
        told = tell_daemon(socket_file(self._settings.ledger.file), command, within_seconds=PATIENCE_SECONDS)
        if told is not None and not told["ok"]:
            raise ConnectionRefused(str(told["message"]))
        return told

    def _open_jobs(self, name: str) -> int:
        """Rows at a connection that are not done; none where no daemon has made the ledger yet."""
        ledger = self._settings.ledger
        if ledger.url is None and not ledger.file.exists():
            return 0
        from qcompute.ledger.looking import count_at  # noqa: PLC0415 - loads the database, which nothing else here needs

        return count_at(ledger, name, _OPEN_STATES)


def _for_daemon(old: Path | None, new: Path | None) -> str:
    """How a running daemon, which has the old key, comes to read credentials again."""
    if old is not None and new is not None:
        return (
            "a running daemon cannot read credentials until it is restarted with the new connections.key_file; or move "
            f"the new key to {old}, which it reads again, and leave the setting as it is"
        )
    if old is None and new is None:
        variable = variable_of(PASSPHRASE)
        return (
            f"a running daemon cannot read credentials until the file that {variable}_FILE named at its start has the "
            "new passphrase; where it has it otherwise, restart it"
        )
    return "a running daemon cannot read credentials again before it is restarted: another kind of key opens them now"


def needs_connection(provider: str) -> list[str] | None:
    """The settings to be given beside the credentials; None when the provider takes no credential and needs nothing.

    Raises:
        ConfigError: there is no such provider.
    """
    model = None if provider == CLUSTER else config_of(provider)
    if model is None:
        return None
    secrets = secret_fields(model)
    required = [name for name, info in model.model_fields.items() if info.is_required() and name not in secrets]
    return required if required or secrets else None


def parsed_settings(pairs: list[str]) -> dict[str, Any]:
    """``key=value`` texts as a table; ``a.b=1`` is in the table ``a``, and a value is TOML where it is, else text.

    Raises:
        ConfigError: one has no ``=``; what stands there is not shown.
    """
    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError("write a setting as key=value")
        below: dict[str, Any] = table
        *path, last = key.strip().split(".")
        for part in path:
            inner: object = below.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{part} is given as a value and as a table")
            below = cast("dict[str, Any]", inner)
        below[last] = _toml(text)
    return table


def _toml(text: str) -> Any:  # noqa: ANN401 - whatever TOML has
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_name(given: str) -> bool:
    try:
        checked_credential(given)
    except ValueError:  # what stands there is told when it is looked at
        return False
    return True


def _refuse_unusable(name: str, findings: list[Finding], *, untested: bool) -> None:
    if untested or is_usable(findings):
        return
    raise Unusable(f"{name} cannot be used", findings)


class Unusable(ConnectionRefused):
    """It was looked at and cannot be used; ``findings`` say why."""

    def __init__(self, message: str, findings: list[Finding]) -> None:
        super().__init__(message)
        self.findings = findings
