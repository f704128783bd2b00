"""The dashboard in a real Chromium, with a real daemon: one of each for the whole file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Page, Route, expect

from qcompute.chain.keys import signer_from_uri
from qcompute.console.operator_token import token_file
from qcompute.local.miner_process import MinerProcess
from qcompute.miner.job import State
from tests.dashboard.browser import PHONE, Watched, chromium, watched
from tests.dashboard.filled import DONE, EVIL, HELD, fill
from tests.scene import VALIDATOR_URI, Scene, running_scene

expect.set_options(timeout=30_000)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOSED: Final = 130

VIEWS: Final = {
    "overview": "/dashboard/",
    "jobs": "/dashboard/jobs",
    "job": f"/dashboard/jobs/{DONE}",
    "held": f"/dashboard/jobs/{HELD}",
    "evil": f"/dashboard/jobs/{EVIL}",
    "devices": "/dashboard/devices",
    "connections": "/dashboard/connections",
    "validators": "/dashboard/validators",
    "login": "/dashboard/login",
}


LOOKED_AT_TWICE: Final = ("overview", "held")
"""Between them these have every element and colour; looking is what takes the time."""


class _Filled(MinerProcess):
    """A miner whose ledger is filled before it starts for the first time."""

    async def start(self, **environment: str) -> None:
        ledger = self.folder / "data" / "ledger.sqlite3"
        if not ledger.exists():
            await fill(ledger, self.signer, closed=CLOSED)
        await super().start(**environment)


@dataclass
class Dashboard:
    scene: Scene
    browser: Browser

    @property
    def url(self) -> str:
        return self.scene.miner.operator_url

    @property
    def token(self) -> str:
        return token_file(self.scene.miner.folder / "data" / "ledger.sqlite3").read_text().strip()

    def open(self, *, dark: bool = False, phone: bool = False) -> AbstractAsyncContextManager[Watched]:
        return watched(self.browser, self.url, dark=dark, phone=phone)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dashboard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dashboard]:
    folder: Path = tmp_path_factory.mktemp("dashboard")
    environment = {"QCOMPUTE_BUDGET__PER_DAY": "50", "QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "0.2"}
    async with running_scene(folder, environment=environment, miner_process=_Filled) as scene, chromium() as browser:
        yield Dashboard(scene, browser)


async def _opened(page: Page, path: str) -> None:
    await page.goto(path)
    await expect(page.locator("h1")).to_be_visible()


@pytest.mark.parametrize("name", VIEWS)
async def test_a_view_is_accessible_and_complains_of_nothing(dashboard: Dashboard, name: str) -> None:
    """Light on a desktop, dark on a phone; each is looked at in all four ways by people, in build/screenshots."""
    async with dashboard.open() as watch:
        page = watch.page
        await _opened(page, VIEWS[name])
        await watch.shoot(f"{name}-desktop-light")
        assert name == "evil" or await watch.violations() == []  # the same elements as in "job"
        await page.emulate_media(color_scheme="dark")
        await watch.shoot(f"{name}-desktop-dark")
        await page.set_viewport_size(PHONE)
        await watch.shoot(f"{name}-phone-dark")
        if name in LOOKED_AT_TWICE:
            assert await watch.violations() == []
        assert not await page.evaluate("document.documentElement.scrollWidth > window.innerWidth"), (
            "it scrolls sideways"
        )
        if name == "validators":
            table = page.locator(".scroll")
            assert not await table.evaluate("one => one.scrollWidth > one.clientWidth"), "the reasons are out of sight"
        await page.emulate_media(color_scheme="light")
        await watch.shoot(f"{name}-phone-light")
        assert await page.evaluate("window.pwned") is None
        assert watch.complaints == []


async def test_what_strangers_wrote_is_shown_as_they_wrote_it(dashboard: Dashboard) -> None:
    async with dashboard.open() as watch:
        await _opened(watch.page, f"/dashboard/jobs/{EVIL}")
        for summary in await watch.page.locator("summary").all():
            await summary.click()
        body = await watch.page.locator("main").inner_text()
        assert "<script>window.pwned=1</script>" in body
        assert "{{7*7}}" in body
        assert "\x1b" not in body
        assert await watch.page.locator("main script, main img, main a[href^='javascript']").count() == 0
        await watch.page.goto(
            "/dashboard/jobs?q=%22%3E%3Cscript%3Ewindow.pwned%3D1%3C/script%3E&state=%3Cb%3E&after=o1-%22"
        )
        await watch.page.goto("/dashboard/jobs?validator=%22%3E%3Cimg%20src%3Dx%20onerror%3Dwindow.pwned%3D1%3E")
        assert await watch.page.evaluate("window.pwned") is None
        assert watch.complaints == []


async def test_a_new_job_shows_without_loading_the_page_again(dashboard: Dashboard) -> None:
    async with dashboard.open() as watch:
        await _opened(watch.page, "/dashboard/jobs")
        await watch.page.evaluate("window.stays = true")
        (name,) = dashboard.scene.add_jobs(1)
        await dashboard.scene.hand_over(1)
        await expect(watch.page.get_by_role("link", name=name)).to_be_visible()
        assert await watch.page.evaluate("window.stays")
        await watch.page.get_by_role("link", name=name).click()
        await expect(watch.page.locator("#receipt-check")).to_contain_text("Verified")
        await _opened(watch.page, "/dashboard/validators")
        visits = watch.page.get_by_role("row").filter(has_text=signer_from_uri(VALIDATOR_URI).hotkey)
        await expect(visits.get_by_role("cell").first).to_have_text(re.compile(r"^[1-9]\d*$"))
        assert watch.complaints == []


async def test_jobs_are_filtered_searched_and_paged(dashboard: Dashboard) -> None:
    async with dashboard.open() as watch:
        page = watch.page
        await _opened(page, "/dashboard/jobs")
        await page.get_by_label("Ended as").select_option("failed")
        await expect(page.locator("table.jobs .verdict-succeeded")).to_have_count(0)
        await expect(page.locator("table.jobs .verdict-failed").first).to_be_visible()
        assert "verdict=failed" in page.url
        await page.get_by_label("Ended as").select_option("")
        await page.get_by_label("Search").fill("VENDOR-107")
        await expect(page.locator("table.jobs tbody tr")).to_have_count(1)
        await expect(page.locator("table.jobs tbody tr")).to_contain_text("done-0107")
        await page.get_by_label("Search").fill("")
        await expect(page.locator("#older")).to_be_visible()
        seen: list[str] = []
        while True:
            seen += await page.locator("table.jobs td:first-child a").all_inner_texts()
            if not await page.locator("#older").count():
                break
            await page.locator("#older").click()
            await page.wait_for_load_state()
        assert len(seen) == len(set(seen)) >= CLOSED + 3
        await page.go_back()
        await expect(page.locator("h1")).to_have_text("Jobs")
        assert watch.complaints == []


async def test_a_late_live_update_does_not_undo_a_filter(dashboard: Dashboard) -> None:
    """An update asked for before the filter was set, and answered after it, put the whole list back under the filter.

    Every later update then asked with the same old query, so that it stayed so.
    """
    async with dashboard.open() as watch:
        page = watch.page
        asked, answer, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            if "hx-request" in route.request.headers and "verdict=failed" not in route.request.url:
                asked.set()
                await answer.wait()
                with suppress(Error):  # given up by the page, as it should be
                    await route.continue_()
                over.set()
            else:
                await route.continue_()

        await page.route(re.compile(r"/dashboard/jobs(\?|$)"), hold)
        await _opened(page, "/dashboard/jobs")
        async with asyncio.timeout(30):
            await asked.wait()
        await page.get_by_label("Ended as").select_option("failed")
        await expect(page.locator("table.jobs .verdict-succeeded")).to_have_count(0)
        answer.set()
        async with asyncio.timeout(30):
            await over.wait()
        async with page.expect_response(lambda response: "verdict=failed" in response.url):
            dashboard.scene.add_jobs(1)
            await dashboard.scene.hand_over(1)
        await page.wait_for_load_state("networkidle")
        assert await page.locator("table.jobs .verdict-succeeded").count() == 0
        await expect(page.locator("table.jobs .verdict-failed").first).to_be_visible()
        assert watch.complaints == []


async def test_the_circuit_is_drawn_and_the_counts_stand_in_a_table(dashboard: Dashboard) -> None:
    async with dashboard.open() as watch:
        await _opened(watch.page, f"/dashboard/jobs/{DONE}")
        await expect(watch.page.locator(".chart canvas")).to_be_visible()
        await watch.page.locator("#s-counts").click()
        await expect(watch.page.get_by_role("row", name="111 489 48.9 %")).to_be_visible()
        await watch.page.locator("#draw").click()
        await expect(watch.page.locator(".drawing pre")).to_contain_text("┤ H ├", timeout=60_000)
        await watch.shoot("job-drawn")
        assert await watch.violations() == []
        assert watch.complaints == []


async def test_a_held_job_is_failed_with_the_keyboard_alone(dashboard: Dashboard) -> None:
    async with dashboard.open(phone=True) as watch:
        page = watch.page
        await page.goto(f"/dashboard/login?next=/dashboard/jobs/{HELD}")
        await expect(page.get_by_label("The operator's token")).to_be_focused()
        await page.keyboard.type(dashboard.token)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert page.url.endswith(f"/dashboard/jobs/{HELD}")
        await _tab_to(page, "#do-fail")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("The reason, which the user is told")).to_be_visible()
        assert await watch.violations() == []
        await watch.shoot("question-phone")
        await _tab_to(page, "[name=reason]")
        await page.keyboard.type("the vendor says it was lost")
        await _tab_to(page, "#confirm")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Fail: done.")).to_be_visible()
        await expect(page.locator(".summary .verdict-failed")).to_be_visible()
        assert (await dashboard.scene.jobs_in())[State.HELD] == 1
        assert watch.complaints == []


async def _tab_to(page: Page, selector: str) -> None:
    """Walk there with the Tab key; whatever has the focus on the way must be visible as such."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        found = await page.evaluate(
            """selector => {
                const active = document.activeElement;
                const style = getComputedStyle(active);
                return [active.matches(selector), active === document.body || style.outlineStyle !== 'none'];
            }""",
            selector,
        )
        assert found[1], "the focus cannot be seen"
        if found[0]:
            return
    raise AssertionError(f"{selector} is not reached with the Tab key")


async def test_theme_and_live_updates_are_switched(dashboard: Dashboard) -> None:
    async with dashboard.open() as watch:
        page = watch.page
        await _opened(page, "/dashboard/")
        back = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(back)
        await page.locator("#theme-switch").click()
        await page.locator("#theme-switch").click()
        await expect(page.locator("#theme-switch")).to_have_text("Theme: dark")
        assert await page.evaluate(back) != light
        await page.reload()
        await expect(page.locator("#theme-switch")).to_have_text("Theme: dark")
        await page.locator("#live-switch").click()
        await expect(page.locator("#live-switch")).to_have_text("Paused")
        assert watch.complaints == []


async def test_a_connection_is_tested(dashboard: Dashboard) -> None:
    async with dashboard.open() as watch:
        await _opened(watch.page, "/dashboard/connections")
        await watch.page.get_by_role("button", name="Test mock").click()
        await expect(watch.page.locator(".notice")).to_contain_text("it answers")
        assert watch.complaints == []


async def test_pages_work_without_scripts(dashboard: Dashboard) -> None:
    context = await dashboard.browser.new_context(base_url=dashboard.url, java_script_enabled=False)
    page = await context.new_page()
    await page.goto("/dashboard/jobs")
    await page.get_by_label("Search").fill("vendor-107")
    await page.get_by_role("button", name="Show").click()
    assert await page.locator("table.jobs tbody tr").count() == 1
    await context.close()
