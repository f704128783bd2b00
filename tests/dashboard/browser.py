"""The system's Chromium, headless, driven by Playwright; what a page complained of is kept."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, ConsoleMessage, Page, Request, ViewportSize, async_playwright

ROOT: Final = Path(__file__).resolve().parents[2]
SCREENSHOTS: Final = ROOT / "build" / "screenshots"
AXE: Final = (Path(__file__).parent / "vendor" / "axe.js").read_text(encoding="utf-8")
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 900}
PHONE: Final[ViewportSize] = {"width": 360, "height": 740}


GIVEN_UP: Final = ("htmx:afterRequest,", "htmx:sendAbort,")
"""What htmx says of a request that a newer one replaced. One that failed is told as `sendError` as well."""


@dataclass
class Watched:
    """A page, and everything it complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list[str])

    def said(self, message: ConsoleMessage) -> None:
        """A line on the console."""
        if message.type != "log" and not message.text.startswith(GIVEN_UP):
            self.complaints.append(message.text)

    def failed(self, request: Request) -> None:
        """A request that came to nothing; those a page leaves behind when it goes are no failures."""
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.url}: {request.failure}")

    async def violations(self) -> list[str]:
        """What axe finds wrong, each with the element."""
        # Evaluated in the page's own world through the debugger, which no policy of the page forbids.
        await self.page.evaluate(AXE)
        found: dict[str, Any] = await self.page.evaluate(
            "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})", RULES
        )
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:200]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    async def shoot(self, name: str) -> None:
        """Keep what the whole page looks like."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """One browser. It runs without its own sandbox: tests run as root, and the pages are ours."""
    found = shutil.which("chromium")
    assert found is not None, "make chromium installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def watched(
    browser: Browser, base_url: str, *, dark: bool = False, phone: bool = False
) -> AsyncGenerator[Watched]:
    """A page of a browser's own profile, with its console listened to."""
    context = await browser.new_context(
        base_url=base_url,
        viewport=PHONE if phone else DESKTOP,
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        reduced_motion="reduce",
    )
    context.set_default_timeout(30_000)
    page = await context.new_page()
    watch = Watched(page)
    page.on("console", watch.said)
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    page.on("requestfailed", watch.failed)
    page.on("dialog", lambda dialog: watch.complaints.append(f"a dialog: {dialog.message}"))
    try:
        yield watch
    finally:
        await context.close()
