"""Signed requests as bytes, made before the clock starts, so that the load generator costs as little as it can."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from qcompute.chain.contract import Signer
from qcompute.local.dendrite import signed_headers
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR, SYNAPSE_NAME
from qcompute.units import Hotkey


@dataclass(frozen=True, slots=True)
class Work:
    """What each request brings: a job, or nothing (collect only).

    ``urls`` are where the jobs' circuits lie; the requests take one after the other, and from the start again.
    """

    urls: tuple[str, ...] = ()
    last_circuit: str = FIRST_CURSOR

    def body(self, number: int) -> bytes:
        collect = not self.urls
        return json.dumps(
            {
                "name": SYNAPSE_NAME,
                "timeout": 10.0,
                "execution_id": COLLECT_ONLY if collect else f"bench-{uuid.uuid4()}-{number}",
                "shots": 0 if collect else 100,
                "configuration_data": {},
                "input_data_url": "" if collect else self.urls[number % len(self.urls)],
                "last_circuit": self.last_circuit,
            }
        ).encode()


def presigned(signer: Signer, miner_hotkey: str, work: Work, numbers: range, port: int) -> list[bytes]:
    """Requests of one dendrite (one uuid, growing nonces), to be sent in order on one connection."""
    dendrite = str(uuid.uuid1())
    return [_one(signer, miner_hotkey, dendrite, work.body(number), port) for number in numbers]


def _one(signer: Signer, miner_hotkey: str, dendrite: str, body: bytes, port: int) -> bytes:
    headers = signed_headers(signer, uuid=dendrite, host="127.0.0.1", port=port, axon_hotkey=Hotkey(miner_hotkey))
    headers |= {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /{SYNAPSE_NAME} HTTP/1.1\r\n{lines}\r\n".encode() + body
