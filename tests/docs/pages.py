"""The pages of ``docs/reference`` that follow from the code: settings, errors, the command, metrics."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from qcompute import errors
from qcompute.errors import QComputeError
from qcompute.miner.providers import registry
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.settings import REFERENCE_VARIABLES, Settings
from qcompute.miner.settings_cli import default_text
from qcompute.miner.settings_fields import Setting, section_model, settings_of
from qcompute.miner.settings_flags import IGNORED_FLAGS
from qcompute.miner.settings_load import catalogue
from qcompute.units import ProviderKey
from tests.docs.console_page import console_page
from tests.docs.http_page import http_page
from tests.docs.metrics_page import metrics_page

ROOT: Final = Path(__file__).resolve().parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"

_NOTE: Final = "<!-- Written by `make docs` from the code; change it there. -->"

_SETTINGS_HEAD: Final = f"""\
{_NOTE}

# Settings

`python neurons/miner.py --check-config` prints every setting with its value and where it came from, secrets
masked; with `--help` it prints this list. Sources, weakest first:

1. the default;
2. the TOML file named by `--config FILE` or `QCOMPUTE_CONFIG`: a setting `axon.port` is `port` in the table
   `[axon]`;
3. the reference miner's variables, from the file `.env` in the current folder, then from the environment (an
   empty one counts as not set, but an empty `METRICS_API_URL` switches telemetry off);
4. `QCOMPUTE_…` variables, from `.env`, then from the environment: `axon.port` is `QCOMPUTE_AXON__PORT`;
5. flags: `--axon.port 8091` or `--axon.port=8091`; a switch needs no value.

An unknown flag, `QCOMPUTE_` name or TOML key is an error that names the nearest known one; all problems are
told at once, with exit code 2. A switch in a variable or flag is one of `true false 1 0 yes no`. A list is
separated by commas, or a TOML array. Settings of a provider are `--providers.NAME.KEY`,
`QCOMPUTE_PROVIDERS__NAME__KEY`, or `KEY` in the table `[providers.NAME]`.

Other names in `.env` are put into the daemon's environment unless they are set there already, as the
reference miner does: bittensor and adapters of others look there.

## The reference miner's variables

| variable | setting |
|---|---|
"""

_SETTINGS_IGNORED: Final = """
## Flags without a meaning here

They are in the start scripts of many operators, so they are taken, and one warning names them:
"""

_ERRORS_HEAD: Final = f"""\
{_NOTE}

# Errors

Every error has a stable code, which is what the log's `code=` shows and what programs may compare; the text
is for people. The class says whose fault it was, and with it what may follow.

```
"""

_WHAT_YOU_DO: Final[Mapping[str, str]] = {
    "error": "See the log line.",
    "rejected": "Nothing: the caller was told.",
    "not_allowed": "Nothing, unless it is a validator you want: see the `[blacklist]` settings and both clocks.",
    "cannot_run": "Nothing: the user was told the limit. Many of one kind: compare with the device's capabilities.",
    "vendor_error": "See the message; the vendor's own code is in it when there is one.",
    "unavailable": "Wait. The daemon tries again, with growing pauses.",
    "submit_unknown": "Look at the vendor's list of jobs: see [a job is held](../how-to/a-job-is-held.md).",
    "refused": "Nothing, or ask the vendor why.",
    "auth_failed": "Renew the credentials and restart. The account is asked again every five minutes.",
    "quota_spent": "Raise the account's limit at the vendor, or wait for its next period.",
    "bad_reply": "If jobs are held for it, report it with the log: the vendor changed something.",
    "delivery_failed": "Nothing: the result is on disk, delivery goes on. If it lasts: `JOB_SERVER_URL`, the network.",
    "upload_refused": "Nothing: a new URL is asked for.",
    "fetch_error": "See the message.",
    "fetch_refused": "Nothing, unless it is a host of your own: see the `[download]` settings.",
    "fetch_failed": "Nothing: it is tried again until `miner.fetch_deadline_seconds`.",
    "sandbox_unavailable": "Check memory and the limit on processes. The job is tried again.",
    "budget_spent": "Nothing, or raise `budget.per_day` or `budget.per_month`. The job waits, new ones are refused.",
    "store_error": "Check disk space, permissions, other users of the file. If it lasts, the daemon ends with code 1.",
    "stale_row": "Nothing: somebody else moved the job on.",
    "config_error": "Change the setting the message names; the daemon does not start (exit code 2).",
    "bug": "Report it with the log. The job is tried again with long pauses; others go on.",
}


def settings_page() -> str:
    """``docs/reference/settings.md``."""
    parts = [_SETTINGS_HEAD]
    parts += [f"| `{variable}` | `{name}` |\n" for variable, name in REFERENCE_VARIABLES.items()]
    for section, settings in groupby(catalogue().settings, key=_section_of):
        parts.append(_section(section, list(settings)))
    parts += [_provider(key) for key in providers()]
    parts.append(_SETTINGS_IGNORED)
    parts.append(
        "\n" + " ".join(f"`{flag}`" for flag in sorted(IGNORED_FLAGS)) + " and everything else under `--wandb.`\n"
    )
    return "".join(parts)


def _section_of(setting: Setting) -> str:
    return setting.path[0] if len(setting.path) > 1 else ""


def _section(name: str, settings: list[Setting]) -> str:
    model = section_model(Settings.model_fields[name].annotation) if name else None
    return _table(f"`[{name}]`" if name else "Outside any table", model, settings)


def _table(title: str, model: type[BaseModel] | None, settings: list[Setting]) -> str:
    lines = [f"\n## {title}\n"]
    if model is not None:
        lines.append(f"{' '.join((model.__doc__ or '').split())}\n")
    lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
    lines += [_row(setting) for setting in settings]
    return "\n".join(lines) + "\n"


def providers() -> list[ProviderKey]:
    """The providers that come with the package."""
    known = registry.keys()
    return [key for key in known if (Path(registry.__file__).parent / f"{key}.py").is_file()]


def _provider(key: ProviderKey) -> str:
    """The table of one provider's own settings; empty when it has none."""
    module = importlib.import_module(f"{registry.__package__}.{key}")
    for item in vars(module).values():
        if inspect.isclass(item) and issubclass(item, ProviderAdapter) and item.__module__ == module.__name__:
            if item.Config is None:
                return ""
            return _table(f"`[providers.{key}]`", item.Config, list(settings_of(item.Config, ("providers", key))))
    return ""


def _row(setting: Setting) -> str:
    default = default_text(setting).removeprefix("default ")
    default = default if default in ("required", "none") else f"`{default}`"
    cells = (f"`{setting.name}`", setting.type_text, default, setting.documentation.replace("``", "`"))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def errors_page() -> str:
    """``docs/reference/errors.md``."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("::\n\n")[1].split("\n\n")[0]
    parts = [_ERRORS_HEAD, inspect.cleandoc(tree), "\n```\n"]
    for error in _all_errors():
        text = _first_paragraph(error)
        do = _WHAT_YOU_DO[error.code]
        parts.append(f"\n## `{error.code}`\n\n{error.__name__}: {text}\n\nWhat you do: {do}\n")
    return "".join(parts)


def _all_errors() -> Iterator[type[QComputeError]]:
    """The classes of ``qcompute/errors.py`` in the order they stand there."""
    tree = ast.parse(inspect.getsource(errors))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield getattr(errors, node.name)


def _first_paragraph(error: type[QComputeError]) -> str:
    return " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())


PAGES: Final[Mapping[Path, Callable[[], str]]] = {
    REFERENCE / "settings.md": settings_page,
    REFERENCE / "errors.md": errors_page,
    REFERENCE / "console.md": console_page,
    REFERENCE / "http.md": http_page,
    REFERENCE / "metrics.md": metrics_page,
}
"""Where each generated page is, and what writes it."""
