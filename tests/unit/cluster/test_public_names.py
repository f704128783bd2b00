"""What programs import from `qcompute.cluster`, whose modules are loaded when they are asked for."""

from __future__ import annotations

import pytest

from qcompute import cluster


@pytest.mark.parametrize("name", cluster.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(cluster, name)
    assert (found.__name__, found.__module__.startswith("qcompute.cluster.")) == (name, True)


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"'qcompute\.cluster' has no attribute 'make_virtual_device'"):
        cluster.make_virtual_device  # noqa: B018 - asking for it is what is tested
