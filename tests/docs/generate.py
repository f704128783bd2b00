"""Writes the generated pages anew: ``make docs``."""

from __future__ import annotations

from tests.docs.pages import PAGES

if __name__ == "__main__":
    for file, write in PAGES.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(write(), encoding="utf-8")
