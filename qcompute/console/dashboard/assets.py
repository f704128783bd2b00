"""The page's files, read once: ours, and those of others, which lie in ``static/vendor`` with their licences."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FOLDER: Final = Path(__file__).parent / "static"

_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER: Final = {"Cache-Control": "private, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent. ``mark`` changes with its content and is in its address."""

    body: bytes = field(repr=False)
    media_type: str
    mark: str


class Assets:
    """All files of the page."""

    def __init__(self) -> None:
        files = sorted(file for file in FOLDER.rglob("*") if file.suffix in _TYPES)
        self._assets = {file.relative_to(FOLDER).as_posix(): _asset(file) for file in files}

    def url(self, name: str) -> str:
        """Where a file is found; for templates."""
        return f"/dashboard/static/{name}?{self._assets[name].mark}"

    async def serve(self, request: Request) -> Response:
        """One file."""
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return PlainTextResponse("there is no such file", status_code=404)
        return Response(asset.body, media_type=asset.media_type, headers=_FOR_EVER)


def _asset(file: Path) -> Asset:
    body = file.read_bytes()
    return Asset(body, _TYPES[file.suffix], hashlib.sha256(body).hexdigest()[:16])
