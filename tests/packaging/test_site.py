"""The documentation site as ``make site`` builds it: strictly, and with nothing on a page from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT

LOADED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\bsrc=["']?(?:https?:)?//|<link[^>]*\bhref=["']?(?:https?:)?//"""
)
STYLED = re.compile(r"url\(['\"]?(?:https?:)?//|@import")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    pages = {page.with_name("index.html") if page.stem == "README" else page for page in pages}
    assert {page for page in pages if not (site / page).is_file()} == set()


def test_nothing_comes_from_another_host(site: Path) -> None:
    outside = [page for page in site.rglob("*.html") if LOADED.search(page.read_text())]
    outside += [sheet for sheet in site.rglob("*.css") if STYLED.search(sheet.read_text())]
    assert outside == []
    assert LOADED.search('<script src="https://cdn.example/x.js">'), "or it would find nothing"


def test_no_page_links_to_a_file_that_is_not_in_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        for target in re.findall(r'<a href="([^"#?]+)', page.read_text()):
            if not target.startswith(("http://", "https://", "mailto:", "/")):
                assert (page.parent / target).resolve().exists(), f"{page.relative_to(site)}: {target}"


def test_a_page_that_nothing_leads_to_is_found() -> None:
    """In `validation` of mkdocs.yml each kind of mistake is a warning, and --strict makes it an error."""
    kinds = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["validation"]
    assert {level for kind in kinds.values() for level in kind.values()} == {"warn"}
