"""IonQ: the key, the settings and the daemon's process."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import cast

import pytest
from pydantic import ValidationError

from qcompute.connections.credentials import Secret
from qcompute.errors import (
    ConfigError,
    SubmitUnknown,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    Absent,
)
from qcompute.miner.providers.ionq import IonqAdapter, IonqConfig
from qcompute.miner.providers.registry import open_adapter
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    KEY,
    look,
    submitted,
)


def test_the_key_is_sent_over_https_only() -> None:
    with pytest.raises(ValidationError, match="https"):
        IonqConfig(api_key=Secret("ionq", KEY), url="http://api.ionq.co/v0.4")
    assert IonqConfig(api_key=Secret("ionq", KEY)).url == "https://api.ionq.co/v0.4"


def test_a_missing_key_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOMPUTE_SECRET_IONQ", raising=False)
    with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_IONQ"):
        open_adapter("ionq")
    with pytest.raises(ValidationError):
        IonqAdapter()


def test_the_key_is_taken_by_name(monkeypatch: pytest.MonkeyPatch, double: IonqDouble) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_IONQ_TEAM", KEY)
    adapter = open_adapter("ionq", {"api_key": "ionq_team", "url": double.base, "max_running_jobs": 3})
    assert adapter.limits().max_running_jobs == 3
    assert isinstance(look(cast("IonqAdapter", adapter), "never"), Absent)
    adapter.close()


def test_the_daemons_process_needs_no_qiskit(double: IonqDouble) -> None:
    script = (
        "import sys\nfrom qcompute.miner.providers.registry import open_adapter\n"
        f"adapter = open_adapter('ionq', {{'url': {double.base!r}}})\n"
        "assert adapter.list_devices() and adapter.list_capabilities() and adapter.get_availability()\n"
        "adapter.close()\nprint(*sorted({'qiskit', 'qiskit_aer', 'numpy', 'openqasm3'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script],
        env={"QCOMPUTE_SECRET_IONQ": KEY, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_every_request_carries_the_key_and_no_client_repeats_a_post(double: IonqDouble, adapter: IonqAdapter) -> None:
    """Behind a gateway that loses every answer, one submit stays one request."""
    double.fault("POST", FaultKind.STATUS_AFTER, status=502, times=5)
    with pytest.raises(VendorError) as raised:
        submitted(adapter)
    assert isinstance(raised.value, SubmitUnknown)
    assert (double.asked_for("POST"), double.created) == (1, 1)
    assert not re.search(KEY, repr(raised.value))
