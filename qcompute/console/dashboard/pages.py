"""The dashboard's pages, as routes of the operator port.

Pages are made here, whole, and work without any script; with htmx the parts marked live are asked for again when
something moved. Whatever a vendor or a validator wrote is escaped by Jinja2, everywhere and always.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from qcompute.console.dashboard import views
from qcompute.console.dashboard.actions import ACTIONS, Action, WrongField, actions_for, command_of
from qcompute.console.dashboard.assets import Assets
from qcompute.console.dashboard.facts import Details, Facts, JobFacts
from qcompute.console.dashboard.headers import SecurityHeaders
from qcompute.console.dashboard.listing import listed
from qcompute.console.dashboard.live import Pulse
from qcompute.console.dashboard.rendering import Prepared, Templates
from qcompute.console.sessions import FormRefused, Session, Sessions, keep
from qcompute.errors import CannotRun, ConfigError, NotAllowed, SandboxUnavailable, StoreError
from qcompute.miner.commands import CommandRefused
from qcompute.miner.job import State, Verdict
from qcompute.miner.switch import SwitchRefused
from qcompute.protocol import is_row_id
from qcompute.units import ExecutionId

PREFIX: Final = "/dashboard"
_OK: Final = 200
_SEE_OTHER: Final = 303
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_UNAVAILABLE: Final = 503

Handler = Callable[[Request], Awaitable[Response]]

_DONE: Final = {name: f"{action.title}: done." for name, action in ACTIONS.items()}


def routes(facts: Facts, sessions: Sessions) -> list[BaseRoute]:
    """The routes of the dashboard."""
    pages = _Pages(facts, sessions)
    table: list[tuple[str, str, Handler]] = [
        ("/", "GET", pages.overview),
        ("/jobs", "GET", pages.jobs),
        ("/jobs/{execution_id}", "GET", pages.job),
        ("/jobs/{execution_id}/circuit", "GET", pages.circuit),
        ("/jobs/{execution_id}/{action}", "GET", pages.ask),
        ("/jobs/{execution_id}/{action}", "POST", pages.act),
        ("/devices", "GET", pages.devices),
        ("/connections", "GET", pages.connections),
        ("/connections/{name}/test", "POST", pages.test),
        ("/connections/{name}/use", "POST", pages.use),
        ("/validators", "GET", pages.validators),
        ("/events", "GET", pages.events),
        ("/{path:path}", "GET", pages.nowhere),
    ]
    open_to_all: list[tuple[str, str, Handler]] = [
        ("/login", "GET", pages.login),
        ("/login", "POST", pages.sign_in),
        ("/logout", "POST", pages.sign_out),
        ("/static/{name:path}", "GET", pages.assets.serve),
    ]
    guarded = [Route(path, pages.guarded(handler), methods=[method]) for path, method, handler in table]
    inner: list[BaseRoute] = [Route(path, handler, methods=[method]) for path, method, handler in open_to_all]
    return [
        Route("/", _home, methods=["GET"]),
        Route(PREFIX, _home, methods=["GET"]),
        Mount(
            PREFIX,
            routes=[*inner, *guarded],
            middleware=[Middleware(SecurityHeaders), Middleware(Prepared, templates=pages.templates)],
        ),
    ]


async def _home(_: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", status_code=_SEE_OTHER)


class _Pages:
    """All handlers. A handler answers the whole page, or its live part alone when htmx asks for that."""

    def __init__(self, facts: Facts, sessions: Sessions) -> None:
        self._facts = facts
        self._sessions = sessions
        self._pulse = Pulse(facts)
        self.assets = Assets()
        self.templates = Templates({"asset": self.assets.url, "State": State, "Verdict": Verdict})

    def guarded(self, handler: Handler) -> Handler:
        """The handler behind the sign-in, where that is asked for, and with words for what may fail."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            if self._sessions.to_look and not session.signed_in:
                return self._to_login(request)
            try:
                return await handler(request)
            except StoreError as error:
                return self._trouble(request, session, _UNAVAILABLE, "The ledger fails", error.message)
            except FormRefused as error:
                return self._trouble(request, session, _FORBIDDEN, "This was not done", error.message)

        return answer

    async def overview(self, request: Request) -> Response:
        """The first page."""
        return self._page(request, "overview", "Overview", await views.overview(self._facts))

    async def jobs(self, request: Request) -> Response:
        """The list of jobs, filtered and paged by its address."""
        page = await listed(self._facts, request.query_params)
        accounts = [account.name for account in self._facts.accounts()]
        return self._page(request, "jobs", "Jobs", {"page": page, "accounts": accounts})

    async def job(self, request: Request) -> Response:
        """One job."""
        found = await self._found(request)
        if found is None:
            return self._no_job(request)
        done = _DONE.get(request.query_params.get("done", ""))
        return self._page(request, "job", f"Job {found.job.execution_id}", views.job(found) | {"done": done})

    async def circuit(self, request: Request) -> Response:
        """The drawing of a job's circuit, made in a sandboxed child when somebody asks for it."""
        found = await self._found(request)
        if found is None:
            return self._no_job(request)
        try:
            told = {"drawing": await self._facts.drawing(found.job.execution_id), "problem": None}
        except (CannotRun, SandboxUnavailable) as error:
            told = {"drawing": None, "problem": error.message}
        return self._page(request, "circuit", "Circuit", told | {"job": found.job})

    async def ask(self, request: Request) -> Response:
        """The question before something is done with a job."""
        session, found = self._sessions.of(request), await self._found(request)
        action = ACTIONS.get(request.path_params["action"])
        if found is None or action is None:
            return self._no_job(request)
        if not session.signed_in:
            return self._to_login(request)
        return self._question(request, action, found, None)

    async def act(self, request: Request) -> Response:
        """Do it."""
        session, found = self._sessions.of(request), await self._found(request)
        action = ACTIONS.get(request.path_params["action"])
        if found is None or action is None:
            return self._no_job(request)
        if not session.signed_in:
            return self._trouble(request, session, _FORBIDDEN, "Sign in first", "Deciding needs the operator's token.")
        fields = await self._sessions.form(request, session)
        try:
            await self._facts.decide(command_of(action, found.job, fields))
        except (CommandRefused, WrongField) as error:
            return self._question(request, action, found, error.message)
        place = f"{PREFIX}/jobs/{found.job.execution_id}?done={action.name}"
        return RedirectResponse(place, status_code=_SEE_OTHER)

    async def devices(self, request: Request) -> Response:
        """The devices of all accounts."""
        return self._page(request, "devices", "Devices", views.devices(self._facts))

    async def connections(self, request: Request) -> Response:
        """The accounts, and whether each can be used."""
        return await self._connections(request)

    async def test(self, request: Request) -> Response:
        """Ask one account now."""
        session, name = self._sessions.of(request), request.path_params["name"]
        await self._sessions.form(request, session)
        try:
            problem = await self._facts.test_account(name)
        except LookupError:
            return self._trouble(request, session, _NOT_FOUND, "No such connection", "It is not configured here.")
        return await self._connections(request, tested=(name, problem))

    async def use(self, request: Request) -> Response:
        """Let new jobs go to another connection."""
        session, name = self._sessions.of(request), request.path_params["name"]
        if not session.signed_in:
            return self._trouble(request, session, _FORBIDDEN, "Sign in first", "Deciding needs the operator's token.")
        await self._sessions.form(request, session)
        choice = await self._facts.choice()
        if name not in choice.others:
            return self._trouble(request, session, _NOT_FOUND, "No such connection", "It is not configured here.")
        try:
            await self._facts.use(name)
        except (SwitchRefused, ConfigError) as error:
            return self._trouble(request, session, _CONFLICT, f"{name} is not used", error.message)
        return RedirectResponse(f"{PREFIX}/connections", status_code=_SEE_OTHER)

    async def _connections(self, request: Request, *, tested: tuple[str, str | None] | None = None) -> Response:
        told: Details = {
            "accounts": self._facts.accounts(),
            "choice": await self._facts.choice(),
            "tested": tested,
        }
        return self._page(request, "connections", "Connections", told)

    async def validators(self, request: Request) -> Response:
        """Who asked the axon."""
        return self._page(request, "validators", "Validators", await views.validators(self._facts))

    async def events(self, request: Request) -> Response:
        """The stream that says when something moved."""
        if self._pulse.is_full:
            return PlainTextResponse("too many pages are open; reload this one to see news", status_code=_UNAVAILABLE)
        return StreamingResponse(self._pulse.stream(request.is_disconnected), media_type="text/event-stream")

    async def login(self, request: Request) -> Response:
        """The sign-in form."""
        return self._page(request, "login", "Sign in", {"problem": None, "next": _next_of(request)})

    async def sign_in(self, request: Request) -> Response:
        """Compare the token, and give the browser a new session."""
        session = self._sessions.of(request)
        try:
            fields = await self._sessions.form(request, session)
            signed_in = self._sessions.sign_in(fields.get("token", "").strip())
        except FormRefused as error:
            told = {"problem": error.message, "next": _next_of(request)}
            return self._page(request, "login", "Sign in", told, status=_FORBIDDEN)
        except NotAllowed as error:
            told = {"problem": error.message, "next": _next_of(request)}
            return self._page(request, "login", "Sign in", told, status=error.status)
        response = RedirectResponse(_next_of(request), status_code=_SEE_OTHER)
        keep(response, signed_in, request)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session's right to decide."""
        session = self._sessions.of(request)
        try:
            await self._sessions.form(request, session)
        except FormRefused as error:
            return self._trouble(request, session, _FORBIDDEN, "This was not done", error.message)
        self._sessions.sign_out(session)
        return RedirectResponse(f"{PREFIX}/", status_code=_SEE_OTHER)

    async def _found(self, request: Request) -> JobFacts | None:
        name = str(request.path_params["execution_id"])
        return await self._facts.job(ExecutionId(name)) if is_row_id(name) else None

    def _question(self, request: Request, action: Action, found: JobFacts, problem: str | None) -> Response:
        told: Details = {
            "action": action,
            "job": found.job,
            "possible": action in actions_for(found.job),
            "problem": problem,
        }
        status = _OK if problem is None else _CONFLICT
        return self._page(request, "ask", f"{action.title} job {found.job.execution_id}", told, status=status)

    async def nowhere(self, request: Request) -> Response:
        """An address with a misspelling: a page with the way back, not two bare words."""
        return self._no_job(request)

    def _no_job(self, request: Request) -> Response:
        session = self._sessions.of(request)
        return self._trouble(request, session, _NOT_FOUND, "Not here", "There is no such job or page here.")

    def _to_login(self, request: Request) -> Response:
        place = request.url.path if request.method == "GET" else f"{PREFIX}/"
        target = f"{PREFIX}/login?next={place}"
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": target})
        return RedirectResponse(target, status_code=_SEE_OTHER)

    def _trouble(self, request: Request, session: Session, status: int, title: str, message: str) -> Response:
        return self._page(request, "trouble", title, {"message": message}, status=status, session=session)

    def _page(
        self,
        request: Request,
        name: str,
        title: str,
        told: dict[str, Any],
        *,
        status: int = _OK,
        session: Session | None = None,
    ) -> Response:
        session = session or self._sessions.of(request)
        asked = request.headers
        # An error is a page of its own, and so is what the browser asks for when going back.
        is_part = "hx-request" in asked and "hx-history-restore-request" not in asked and status == _OK
        known = {"title": title, "here": name, "session": session, "self_url": _self_url(request)}
        page = self.templates.render(f"{'_' if is_part else ''}{name}.html", known | told)
        response = HTMLResponse(page, status_code=status)
        if session.is_new:
            keep(response, session, request)
        return response


def _next_of(request: Request) -> str:
    """Where to go after the sign-in: a page of ours only."""
    place = request.query_params.get("next", "")
    known = place.startswith(f"{PREFIX}/") and all(sign.isalnum() or sign in "/._:-" for sign in place)
    return place if known and ".." not in place and "//" not in place else f"{PREFIX}/"


def _self_url(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path
