"""``qcompute connections …``: named ways to reach accounts, their credentials, and which one is in use.

Thin: what is done is in `qcompute.connections.operations`. Values come from a prompt without echo, from standard input
or from a file, never from an argument: other users of the machine see those.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from qcompute.connections.credentials import environment_value
from qcompute.connections.definitions import Definition
from qcompute.connections.findings import Finding, Grade
from qcompute.connections.operations import Changed, Connections, Unusable, parsed_settings
from qcompute.connections.store import checked_passphrase
from qcompute.connections.vault import Ask, KeyKind
from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Output, Style, readable
from qcompute.errors import ConfigError

_MARKS: Final = {Grade.OK: "ok", Grade.NOTICE: "note", Grade.FAILED: "FAILED"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="the connection")]
Untested = Annotated[bool, typer.Option("--untested", help="also when the account cannot be reached now")]
FromStdin = Annotated[bool, typer.Option("--stdin", help="read the value from standard input")]
FromEnvironment = Annotated[
    bool, typer.Option("--from-environment", help="take over the value that the environment has")
]


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the group."""
    ours = group(summary)
    command(ours, "add", add)
    command(ours, "list", list_)
    command(ours, "test", look)
    command(ours, "use", use)
    command(ours, "rotate", rotate)
    command(ours, "rekey", rekey)
    command(ours, "remove", remove)
    app.add_typer(ours, name=name)


def add(  # noqa: PLR0917 - typer takes options from arguments
    context: typer.Context,
    name: Name,
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="as in PROVIDER: ibm, braket, azure, ionq, rest, aer …")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="as in [providers.X]")
    ] = None,
    budget: Annotated[list[str] | None, typer.Option("--budget", metavar="KEY=VALUE", help="as in [budget]")] = None,
    value_file: Annotated[
        list[str] | None, typer.Option("--value-file", metavar="SETTING=FILE", help="read this credential from a file")
    ] = None,
    credential: Annotated[
        list[str] | None, typer.Option("--credential", metavar="SETTING=NAME", help="use a credential that is kept")
    ] = None,
    *,
    stdin: FromStdin = False,
    from_environment: FromEnvironment = False,
    untested: Untested = False,
    json: Json = False,
) -> int:
    """Write a connection down and keep its credentials; it is looked at first, without spending."""
    ours = _connections(context)
    table = parsed_settings(settings or [])
    table |= dict(_pair(one) for one in credential or [])
    values = {field: _file(Path(path)) for field, path in map(_pair, value_file or [])}
    fields = ours.fields(provider)
    is_left_open = sys.stdin.isatty() and not values and not table.keys() & {field.name for field in fields}
    for field in fields:
        if field.name in values or field.name in table:
            continue
        if from_environment:
            table[field.name], values[field.name] = _from_environment(name, field.name)
        elif stdin:
            values[field.name] = sys.stdin.readline()
        elif field.is_required:
            values[field.name] = _prompt(f"{field.name} of {name}")
        elif is_left_open and (given := _prompt(f"{field.name} of {name}, or Enter for none")):
            values[field.name] = given
    definition = Definition(provider=provider, settings=table, budget=parsed_settings(budget) if budget else None)
    with _explained():
        changed = ours.add(name, definition, values=values, untested=untested)
    return _changed(changed, f"{name} is added", output_for(as_json=json))


def list_(context: typer.Context, *, json: Json = False) -> int:
    """List connections, where their credentials are kept, and which one new jobs go to.

    Also the credentials that PROVIDER's own table in the settings names, or with PROVIDER=cluster those of every
    account of the cluster. Exit code 1: the provider's settings or the cluster cannot be read.
    """
    ours = _connections(context)
    rows, in_use, chain = ours.rows(), ours.in_use(), ours.store.chain()
    try:
        home, nodes, trouble = ours.home_row(), ours.node_rows(), None
    except ConfigError as error:  # it may be mended with what else is listed
        home, nodes, trouble = None, [], error.message
    code = ExitCode.DONE if trouble is None else ExitCode.FAILED
    output = output_for(as_json=json)
    if json:
        shown = {
            "connections": [row.model_dump() for row in rows],
            "settings": home and home.model_dump(),
            "nodes": [row.model_dump() for row in nodes],
        }
        output.document({"in_use": in_use, "places": chain, **shown, "nodes_problem": trouble})
        return code
    cells = [("*" if row.in_use else "", row.name, row.provider, _kept(row.places)) for row in rows]
    output.table(("", "NAME", "PROVIDER", "CREDENTIALS"), cells, empty="no connections")
    if home is not None:
        output.table(("PROVIDER OF THE SETTINGS", "CREDENTIALS"), [(home.provider, _kept(home.places))], empty="")
    if nodes:
        cells = [(row.name, row.provider, row.connection, _kept(row.places)) for row in nodes]
        output.table(("ACCOUNT OF THE CLUSTER", "PROVIDER", "CONNECTION", "CREDENTIALS"), cells, empty="")
    if trouble is not None:
        output.line(f"the accounts of the settings cannot be listed: {trouble}", Style.BAD)
    output.line(f"new jobs go to: {in_use}")
    output.line(f"credentials are looked for in: {', then '.join(chain)}")
    return code


def _kept(places: dict[str, str | None]) -> str | None:
    return ", ".join(f"{one} ({place or 'NOT SET'})" for one, place in places.items()) or None


def look(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="all of them if left out; PROVIDER's name too, or an account of the cluster"
        ),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Look at connections without spending: reachable, who we are, quota, cost limit, devices."""
    ours = _connections(context)
    found = {name: ours.test(name) for name in names or [row.name for row in ours.rows()]}
    output = output_for(as_json=json)
    if json:
        output.document({name: [asdict(one) for one in findings] for name, findings in found.items()})
    elif not found:
        output.line("there are no connections yet: qcompute connections add; qcompute doctor looks at PROVIDER")
    else:
        for name, findings in found.items():
            _print(name, findings)
    has_failed = any(one.grade is Grade.FAILED for findings in found.values() for one in findings)
    return ExitCode.FAILED if has_failed else ExitCode.DONE


def use(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the connection, or PROVIDER's name to go back")],
    *,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="also when it cannot be reached now")] = False,
    json: Json = False,
) -> int:
    """Let new jobs go there, without a restart; jobs that were submitted stay where they are."""
    told = _connections(context).use(name, unchecked=unchecked)
    output_for(as_json=json).answer({"in_use": name, "message": told}, told)
    return ExitCode.DONE


def rotate(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="the connection, PROVIDER's name for its own, or an account of the cluster"
        ),
    ],
    setting: Annotated[
        str | None, typer.Argument(metavar="[SETTING]", help="which credential, if it has several")
    ] = None,
    value_file: Annotated[Path | None, typer.Option("--value-file", metavar="FILE", help="read it from a file")] = None,
    *,
    stdin: FromStdin = False,
    from_environment: FromEnvironment = False,
    untested: Untested = False,
    json: Json = False,
) -> int:
    """Keep a new value of a credential: it is tried first, and a running daemon takes it up without a restart."""
    ours = _connections(context)
    if from_environment:
        value = ours.environment_value(name, setting)
    elif value_file is not None:
        value = _file(value_file)
    else:
        value = sys.stdin.readline() if stdin else _prompt(f"new {setting or 'value'} of {name}")
    with _explained():
        changed = ours.rotate(name, setting, value, untested=untested)
    return _changed(changed, f"{name} has its new value", output_for(as_json=json))


def rekey(
    context: typer.Context,
    *,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="FILE", help="a key file is to open it, made if it is not there"),
    ] = None,
    value_file: Annotated[
        Path | None, typer.Option("--value-file", metavar="FILE", help="read the new passphrase from a file")
    ] = None,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin",
            help="read passphrases as lines: the present one, unless a variable or key file gives it; the new",
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Give the encrypted file of credentials another passphrase, or with --key-file a key file.

    Also from one kind to the other. The present passphrase or key is tried first. The file is replaced whole: should
    this be interrupted, the old one opens as before.
    """
    if key_file is not None and value_file is not None:
        raise ConfigError("--key-file and --value-file: a key file or a passphrase opens the file, not both")
    ours = _connections(context, ask=_line if stdin else None)

    def new() -> str:
        if value_file is not None:
            return _file(value_file).strip()
        return _line() if stdin else _new_passphrase(f"new passphrase of {ours.store.vault.path}")

    done = ours.rekey(key_file, new)
    what = {KeyKind.PASSPHRASE: "the new passphrase", KeyKind.KEY_FILE: f"the key in {key_file}"}[done.kind]
    output = output_for(as_json=json)
    if json:
        output.document({"file": str(done.file), "opens_with": done.kind, "notes": done.notes})
        return ExitCode.DONE
    output.line(f"{done.file} opens with {what} now")
    for note in done.notes:
        output.line(note)
    return ExitCode.DONE


def remove(
    context: typer.Context,
    name: Name,
    *,
    keep_credentials: Annotated[bool, typer.Option("--keep-credentials", help="only the connection")] = False,
    json: Json = False,
) -> int:
    """Forget a connection and its credentials; not while jobs are there."""
    gone = _connections(context).remove(name, keep_credentials=keep_credentials)
    text = f"{name} is removed" + (f", with {', '.join(gone)}" if gone else "")
    output_for(as_json=json).answer({"removed": name, "credentials": gone}, text)
    return ExitCode.DONE


@contextmanager
def _explained() -> Generator[None]:
    """What was found comes before the one line that says it was refused."""
    try:
        yield
    except Unusable as refusal:
        _print("", refusal.findings, to_error=True)
        raise


def _connections(context: typer.Context, ask: Ask | None = None) -> Connections:
    settings = invocation_of(context).settings()
    asked: list[str] = []

    def prompt() -> str:
        if not asked:
            asked.append(_passphrase(ours.store.vault.path))
        return asked[0]

    ours = Connections(settings, ask=ask or (prompt if sys.stdin.isatty() else None))
    return ours


def _passphrase(file: Path) -> str:
    if not file.exists():
        return _new_passphrase(f"passphrase of {file}")
    if not (given := getpass.getpass(f"passphrase of {file}: ")):
        raise ConfigError("an empty passphrase protects nothing")
    return given


def _new_passphrase(what: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask at: use --stdin or --value-file")
    given = checked_passphrase(getpass.getpass(f"{what}: "))
    if getpass.getpass("again: ") != given:
        raise ConfigError("the two passphrases differ; nothing was stored")
    return given


def _line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _prompt(what: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask at: use --stdin, --value-file or --from-environment")
    return getpass.getpass(f"{what} (not shown): ")


def _file(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__})") from None


def _from_environment(connection: str, field: str) -> tuple[str, str]:
    """Name and value of the credential that the environment has under the connection's own name for it."""
    credential = f"{connection}_{field}".replace("-", "_")
    value = environment_value(credential)
    if value is None:
        raise ConfigError(f"QCOMPUTE_SECRET_{credential.upper()} is not set, so there is nothing to take over")
    return credential, value


def _pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals:
        raise ConfigError("write it as SETTING=…")
    return left, right


def _changed(changed: Changed, done: str, output: Output) -> ExitCode:
    if output.as_json:
        findings = [asdict(one) for one in changed.findings]
        output.document({"message": done, "places": changed.places, "findings": findings, "notes": changed.notes})
        return ExitCode.DONE
    _print("", changed.findings)
    output.line(done)
    for credential, place in changed.places.items():
        output.line(f"{credential} is kept in {place}")
    for note in changed.notes:
        output.line(note)
    return ExitCode.DONE


def _print(name: str, findings: list[Finding], *, to_error: bool = False) -> None:
    stream = sys.stderr if to_error else sys.stdout
    for one in findings:
        fix = f" -> {one.fix}" if one.fix else ""
        prefix = f"{name}  " if name else ""
        stream.write(readable(f"{prefix}{_MARKS[one.grade]:<6}  {one.subject}: {one.text}{fix}") + "\n")
