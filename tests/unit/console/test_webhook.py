"""One message to a real receiver: its form, its signature, how often it is tried, what is never shown."""

from __future__ import annotations

import hashlib
import hmac
import logging
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from qcompute.connections.credentials import Secret
from qcompute.console.webhook import TRIES, Webhook, open_webhook
from qcompute.errors import ConfigError
from qcompute.local.service import Fault, FaultKind
from qcompute.miner.watching import AlertFormat, AlertSettings
from tests.receivers import Receiver

HIDDEN = "T0KEN-in-the-path"
DOCUMENT = {
    "kind": "budget",
    "status": "firing",
    "text": "80 %",
    "miner": "5Abcdefghijk",
    "subject": "x",
    "since": "now",
}


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    service = Receiver()
    await service.start()
    yield service
    await service.stop()


async def sent(url: str, **more: object) -> bool:
    webhook = Webhook(Secret("alerts", url), first_pause_seconds=0.001, **more)  # pyright: ignore[reportArgumentType]
    try:
        return await webhook.send(DOCUMENT)
    finally:
        await webhook.close()


async def test_a_message_has_all_facts_and_no_signature(receiver: Receiver) -> None:
    assert await sent(f"{receiver.url}/{HIDDEN}")
    (message,) = receiver.received
    assert message.path == f"/{HIDDEN}"
    assert message.document.items() >= DOCUMENT.items()
    assert message.document["version"]
    assert message.headers["content-type"] == "application/json"
    assert not any(name.startswith("x-qcompute") for name in message.headers)


async def test_a_chat_is_sent_one_line(receiver: Receiver) -> None:
    assert await sent(receiver.url, message_format=AlertFormat.SLACK)
    assert receiver.received[0].document == {"text": "qcompute 5Abcdefg… firing: 80 %"}


async def test_whoever_has_the_key_can_tell_that_it_is_ours(receiver: Receiver) -> None:
    assert await sent(receiver.url, signature=Secret("sign", "key"))
    (message,) = receiver.received
    signed = message.headers["x-qcompute-timestamp"].encode() + b"." + message.body
    expected = hmac.new(b"key", signed, hashlib.sha256).hexdigest()
    assert message.headers["x-qcompute-signature"] == f"sha256={expected}"


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.DROP_BEFORE])
async def test_a_receiver_that_fails_is_tried_again(receiver: Receiver, kind: FaultKind) -> None:
    receiver.faults.append(Fault("POST", kind, times=TRIES - 1))
    assert await sent(receiver.url)
    assert len(receiver.received) == 1
    assert receiver.faults[0].times == 0


@pytest.mark.parametrize(("status", "tries"), [(503, TRIES), (429, TRIES), (404, 1), (301, 1)])
async def test_in_the_end_it_is_given_up_and_the_url_is_not_shown(
    receiver: Receiver, status: int, tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.faults.append(Fault("POST", FaultKind.STATUS, status, headers={"Location": "/elsewhere"}, times=None))
    with caplog.at_level(logging.DEBUG):
        assert not await sent(f"{receiver.url}/{HIDDEN}")
    assert len(receiver.asked) == tries
    assert f"answers {status}" in caplog.text
    assert HIDDEN not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("qcompute"))


async def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert not await sent(f"http://127.0.0.1:{port}/{HIDDEN}")
    assert "cannot be reached (ClientConnectorError)" in caplog.text
    assert HIDDEN not in caplog.text


@pytest.mark.parametrize(
    "url", ["", HIDDEN, f"http://hooks.example/{HIDDEN}", f"ftp://127.0.0.1/{HIDDEN}", "https://", "http://["]
)
def test_a_url_that_would_not_do_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"'alerts' \(alerts\.webhook\)") as refused:
        Webhook(Secret("alerts", url))
    assert HIDDEN not in refused.value.message


def test_off_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_webhook(AlertSettings()) is None
    with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_HOOK"):
        open_webhook(AlertSettings(webhook="hook"))
    monkeypatch.setenv("QCOMPUTE_SECRET_HOOK", "https://hooks.example/x")
    assert open_webhook(AlertSettings(webhook="hook")) is not None
