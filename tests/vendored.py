"""``make vendored``: fetch the scripts of others again from the npm registry, and compare them with what is kept."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any, Final

import httpx

ROOT: Final = Path(__file__).resolve().parents[1]
NOTE: Final = ROOT / "qcompute" / "console" / "dashboard" / "static" / "vendor" / "vendored.json"
REGISTRY: Final = "https://registry.npmjs.org"


def main() -> int:
    """1 when a kept file is not the one of its package."""
    note: dict[str, Any] = json.loads(NOTE.read_text(encoding="utf-8"))
    wrong: list[str] = []
    for package in sorted({one["package"] for one in note["files"]}):
        name, _, version = package.rpartition("@")
        url = f"{REGISTRY}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        archive = httpx.get(url, follow_redirects=True, timeout=60).raise_for_status().content
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            for one in (one for one in note["files"] if one["package"] == package):
                member = members.extractfile(f"package/{one['path']}")
                digest = "" if member is None else hashlib.sha256(member.read()).hexdigest()
                kept = hashlib.sha256((ROOT / one["file"]).read_bytes()).hexdigest()
                if not digest == kept == one["sha256"]:
                    wrong.append(one["file"])
                sys.stdout.write(f"{'ok   ' if digest == kept == one['sha256'] else 'WRONG'} {package} {one['file']}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
