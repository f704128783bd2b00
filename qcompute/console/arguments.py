"""The command line of ``qcompute``: which of its words are the daemon's own settings.

The settings say which ledger is meant, so they are those of ``neurons/miner.py``, from the same sources. Their flags
have a dot or are in the list of settings; typer never sees them: it would take their values for its own arguments.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qcompute.console.output import Output, Style
from qcompute.errors import ConfigError

if TYPE_CHECKING:
    import typer

    from qcompute.miner.settings import Settings
    from qcompute.miner.settings_load import Loaded

# The settings and all they are made of take a second to import; help and a wrong word are answered without them.

UNDOTTED: Final = frozenset({"--config", "--netuid", "--provider", "--providers"})
"""Settings whose flags have no dot; a test compares them with the list of settings."""

_UNUSED_SERVERS: Final = {
    "JOB_SERVER_URL": "https://not-used-here.invalid",
    "TENSORAUTH_URL": "https://not-used-here.invalid",
}
"""The daemon must be given these; no command here speaks to them, and a backup by cron must not need them."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """Where and with which of the daemon's settings ``qcompute`` was called."""

    flags: Sequence[str]
    environ: Mapping[str, str]
    folder: Path

    def settings(self) -> Settings:
        """The daemon's settings, without those nothing here needs.

        Raises:
            ConfigError: one is unknown or wrong; names it.
        """
        return settings_from(self.flags, self.environ, self.folder)

    def again(self, command: str) -> str:
        """A command to be pasted into this shell: with the settings given here, it is about the same miner.

        It holds no password; `left_out` says what is missing.
        """
        return " ".join([command, *(words for words, _ in _shown_flags(self.flags))])

    def left_out(self) -> str | None:
        """What `again` leaves out because it is secret, and how it is given, in one line; None: nothing."""
        flags = list(dict.fromkeys(flag for _, flag in _shown_flags(self.flags) if flag is not None))
        if not flags:
            return None
        how = "" if flags != ["--ledger.url"] else ": give it with ledger.password_secret, PGPASSWORD or ~/.pgpass"
        return f"left out of what is to be pasted: the secret in {' and '.join(flags)}{how}"

    def loaded(self) -> Loaded:
        """The settings as the daemon itself would take them, with where each came from.

        Raises:
            ConfigError: one line for each that is unknown, missing or wrong.
        """
        from qcompute.miner.settings_load import load_from  # noqa: PLC0415 - see below

        return load_from(self.flags, self.environ, self.folder)


def _shown_flags(flags: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each flag with its value as a shell takes them, and the flag's name where something secret is left out.

    A flag of which nothing may be shown has no value, and so is refused when it is pasted: without it the command
    would be about another miner.
    """
    rest = list(flags)
    while rest:
        flag, sign, value = rest.pop(0).partition("=")
        if not sign and rest and not rest[0].startswith("--"):
            sign, value = " ", rest.pop(0)
        shown = _without_secret(flag, value)
        if shown is None:
            yield shlex.quote(flag), flag
        else:
            words = [f"{flag}={shown}"] if sign == "=" else [flag, *([shown] if sign else [])]
            yield shlex.join(words), None if shown == value else flag


def _without_secret(flag: str, value: str) -> str | None:
    """What may be shown of a flag's value; None: nothing."""
    from qcompute.connections.credentials import checked_name  # noqa: PLC0415 - see above
    from qcompute.miner.settings_show import may_be_secret, without_password  # noqa: PLC0415 - see above

    name = flag.removeprefix("--").rpartition(".")[2]
    if value and may_be_secret([name]) and not name.endswith("_file"):
        try:
            return checked_name(value)  # of a provider that is not opened here nobody has looked whether it is a name
        except ValueError:
            return None
    return without_password(value)


def tell_left_out(invocation: Invocation, output: Output) -> None:
    """Below commands of `Invocation.again`: what must be given beside them when they are pasted."""
    if (text := invocation.left_out()) is not None:
        output.line(text, Style.WARNING)


def invocation_of(ctx: typer.Context) -> Invocation:
    """What `main` was called with."""
    found = ctx.find_object(Invocation)
    if found is None:  # completion asks for values without a command that runs
        return Invocation((), {}, Path.cwd())
    return found


def output_for(*, as_json: bool) -> Output:
    """Standard output of a command."""
    return Output(as_json=as_json)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that are settings of the daemon."""
    if not any(_may_be_setting(argument.partition("=")[0]) for argument in arguments):
        return list(arguments), []
    from qcompute.miner.settings_fields import Kind  # noqa: PLC0415 - see above
    from qcompute.miner.settings_load import catalogue  # noqa: PLC0415 - see above
    from qcompute.miner.settings_sources import SWITCH_WORDS  # noqa: PLC0415 - see above

    rest, ours, settings = list(arguments), list[str](), list[str]()
    known = catalogue()
    while rest:
        argument = rest.pop(0)
        flag, equals, _ = argument.partition("=")
        if not _may_be_setting(flag):
            ours.append(argument)
            continue
        found = known.flag(flag)
        settings.append(argument)
        if equals or not rest:
            continue
        is_switch = found is not None and found[0].kind is Kind.SWITCH
        if rest[0].lower() in SWITCH_WORDS if is_switch else not rest[0].startswith("--"):
            settings.append(rest.pop(0))
    return ours, settings


def _may_be_setting(flag: str) -> bool:
    return flag.startswith("--") and ("." in flag or flag in UNDOTTED)


def settings_from(flags: Sequence[str], environ: Mapping[str, str], folder: Path) -> Settings:
    """The daemon's settings, without those nothing here needs.

    Raises:
        ConfigError: one is unknown or wrong; names it.
    """
    from qcompute.miner.settings_flags import CommandLine  # noqa: PLC0415 - see above
    from qcompute.miner.settings_load import catalogue, load  # noqa: PLC0415 - see above

    problems: list[str] = []
    command = CommandLine(flags, catalogue(), problems).read()
    try:
        return load(command, {**_UNUSED_SERVERS, **environ}, folder, problems).settings
    except ConfigError as error:
        raise ConfigError("; ".join(error.message.splitlines())) from None
