"""The compose file of the how-to for several machines: that it is one, and that its miners are one miner."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from qcompute.miner.limits import MinerSettings
from qcompute.miner.settings_load import load_from
from tests.docs.pages import ROOT

FILE: Final = ROOT / "docs" / "how-to" / "compose.two-machines.yaml"

TOP: Final = {"name", "services", "volumes", "secrets", "configs"}
SERVICE: Final = {
    *(
        "image",
        "build",
        "read_only",
        "tmpfs",
        "cap_drop",
        "security_opt",
        "command",
        "env_file",
        "environment",
        "secrets",
        "configs",
        "volumes",
        "ports",
    ),
    *("depends_on", "restart", "stop_signal", "stop_grace_period", "healthcheck"),
}
"""Those of the compose specification that are used; a word that is not among them is a mistake."""

MINERS: Final = ("miner-a", "miner-b")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_it_has_the_words_of_the_specification(document: dict[str, Any]) -> None:
    assert {key for key in document if not key.startswith("x-")} == TOP
    for name, service in document["services"].items():
        assert set(service) <= SERVICE, name
        assert service["image"].partition(":")[2], f"{name}: an image without a version"


def test_what_a_service_uses_is_there(document: dict[str, Any]) -> None:
    for name, service in document["services"].items():
        assert set(service.get("depends_on", ())) <= set(document["services"]), name
        assert set(service.get("secrets", ())) <= set(document["secrets"]), name
        assert {config["source"] for config in service.get("configs", ())} <= set(document["configs"]), name
        named = {volume.split(":")[0] for volume in service.get("volumes", ()) if not volume.startswith(".")}
        assert named <= set(document["volumes"]), name


def test_the_two_are_one_miner_with_folders_of_their_own(document: dict[str, Any]) -> None:
    one, two = ({**document["services"][name]} for name in MINERS)
    volumes = [set(service.pop("volumes")) for service in (one, two)]
    assert one == two
    (first,), (second,) = volumes[0] - volumes[1], volumes[1] - volumes[0]
    assert (first.split(":")[1], second.split(":")[1]) == ("/data", "/data")
    for name in MINERS:
        assert f"{name}:8091" in document["configs"]["haproxy"]["content"]


def test_its_settings_are_taken(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    miner = document["services"][MINERS[0]]
    arguments = miner["command"]
    folder = tmp_path_factory.mktemp("compose")
    password = folder / "password"
    password.write_text("p")
    environment = miner["environment"] | {
        "JOB_SERVER_URL": "https://j.example",
        "TENSORAUTH_URL": "https://t.example",
        "QCOMPUTE_SECRET_LEDGER_FILE": str(password),
    }
    settings = load_from(arguments, environment, folder).settings
    assert settings.ledger.url is not None
    assert settings.ledger.password_secret == "ledger"  # a name, no secret
    assert settings.axon.external_ip


def test_it_waits_longer_than_the_daemon_takes_to_stop(document: dict[str, Any]) -> None:
    for name in MINERS:
        seconds = float(document["services"][name]["stop_grace_period"].removesuffix("s"))
        assert seconds >= MinerSettings().shutdown_seconds + 10
