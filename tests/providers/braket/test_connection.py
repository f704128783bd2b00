"""Amazon Braket: keys, failures on the road and the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from qcompute.errors import (
    AuthFailed,
    SubmitUnknown,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.braket import BraketAdapter
from qcompute.units import IdempotencyToken
from tests.doubles.braket import (
    KIT,
    BraketDouble,
)
from tests.providers.braket.scene import LONG_AGO, Open, ended, submitted


def test_nothing_of_the_surroundings_is_used(
    opened: Open, double: BraketDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Variables, profiles and proxies of the machine are meant for other programs."""
    wrong = "http://127.0.0.1:9"
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text(f"[default]\nregion = nowhere\nmax_attempts = 7\nendpoint_url = {wrong}\n")
    (folder / "credentials").write_text("[default]\naws_access_key_id = OTHER\naws_secret_access_key = OTHER\n")
    surroundings = {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "OTHER",
        "AWS_SECRET_ACCESS_KEY": "OTHER",
        "AWS_SESSION_TOKEN": "OTHER",
        "AWS_PROFILE": "missing",
        "AWS_DEFAULT_REGION": "nowhere",
        "AWS_MAX_ATTEMPTS": "7",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_ENDPOINT_URL": wrong,
        "AWS_ENDPOINT_URL_S3": wrong,
        "AWS_ENDPOINT_URL_BRAKET": wrong,
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "HTTP_PROXY": wrong,
        "HTTPS_PROXY": wrong,
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    adapter = opened()
    assert ended(adapter, submitted(adapter)).status == "COMPLETED"
    double.fault("POST /quantum-task$", FaultKind.STATUS, status=500, times=None)
    asked = double.asked_for("POST /quantum-task")
    with pytest.raises(SubmitUnknown):
        submitted(adapter, "again")
    assert double.asked_for("POST /quantum-task") - asked == 1


def test_a_temporary_key_works_until_it_expires(
    opened: Open, double: BraketDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_BRAKET_SESSION", "of today")
    double.session_token = "of today"
    adapter = opened(session_token="braket_session")
    handle = submitted(adapter)
    assert ended(adapter, handle).status == "COMPLETED"
    double.session_token = "of tomorrow"
    for call in (
        lambda: submitted(adapter, "two"),
        lambda: adapter.poll(handle),
        lambda: adapter.poll_many([handle]),
        lambda: adapter.cancel(handle),
        lambda: adapter.get_job_receipt(handle),
        lambda: adapter.find(IdempotencyToken("token-1"), LONG_AGO),
    ):
        with pytest.raises(AuthFailed, match="ExpiredToken"):
            call()
    assert double.created == 1


def test_a_key_that_is_not_accepted_is_told(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.access_key_id = "another"
    with pytest.raises(AuthFailed, match="UnrecognizedClient"):
        adapter.list_devices()


def test_the_daemon_does_not_load_qiskit_for_it(double: BraketDouble) -> None:
    script = f"""
import json, sys
from qcompute.miner.providers.registry import open_adapter
adapter = open_adapter("braket", json.loads({json.dumps(json.dumps(KIT.table(double)))}))
assert adapter.list_devices()
adapter.close()
print(*[name for name in ("qiskit", "numpy", "braket", "openqasm3") if name in sys.modules])
"""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", **KIT.variables(double)},
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
