"""The templates: read and compiled when the first page is asked for.

With Jinja2 they take five megabytes, which a miner that nobody watches does not need. Nothing waits for a disk: they
are made in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from qcompute.console.dashboard import shown
from qcompute.errors import Bug

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER: Final = Path(__file__).parent / "templates"


class Templates:
    """All pages. ``known`` is what every template may use."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        self._making = asyncio.Lock()
        self._environment: Environment | None = None

    async def ready(self) -> None:
        """Make them, at the first call."""
        if self._environment is None:
            async with self._making:
                self._environment = self._environment or await asyncio.to_thread(_made, self._known)

    def render(self, name: str, told: Mapping[str, Any]) -> str:
        """A page; `ready` was awaited before."""
        if self._environment is None:
            raise Bug("a page was rendered before its templates were made")
        return self._environment.get_template(name).render(told)


class Prepared:
    """Middleware that has the templates made before anything is asked of the pages."""

    def __init__(self, app: ASGIApp, templates: Templates) -> None:
        self._app = app
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on once pages can be rendered."""
        await self._templates.ready()
        await self._app(scope, receive, send)


def _made(known: Mapping[str, Any]) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - see the module's text
    from markupsafe import Markup  # noqa: PLC0415

    def visible(value: Any) -> Any:  # noqa: ANN401 - whatever a template shows
        """Every text on every page, so that no control character of a stranger's gets into one."""
        return shown.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    made.filters |= {
        "duration": shown.duration,
        "moment": shown.moment,
        "words": shown.words,
        "document": shown.document,
    }
    made.globals.update(known)
    for name in made.list_templates():
        made.get_template(name)
    return made
