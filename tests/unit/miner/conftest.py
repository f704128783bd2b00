from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.miner.scripted import Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A road with one scripted account."""
    scene = Scene()
    yield scene
    await scene.close()
