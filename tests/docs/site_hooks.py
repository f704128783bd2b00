"""For ``make site``: a link that leads out of ``docs`` into the repository is shown as the file's path.

The site is read where there is no checkout, and the repository's address is nobody's business to guess.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

_LINK: Final = re.compile(r"\[([^\]]*)\]\((\.\.?/[^)\s#]+)(#[^)\s]*)?\)")
_DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Called by mkdocs with the text of each page."""
    folder = (_DOCS / page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(_DOCS):
            return link[0]
        path = f"`{target.relative_to(_DOCS.parent)}`"
        return path if link[1].strip("`") in path else f"{link[1]} ({path})"

    return _LINK.sub(shown, markdown)
