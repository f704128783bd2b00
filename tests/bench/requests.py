"""Signed requests as bytes, made before the clock starts, so that the load generator costs as little as it can."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass

from qcompute.chain.contract import Signer
from qcompute.protocol import COLLECT_ONLY, EMPTY_BODY_HASH, FIRST_CURSOR, SYNAPSE_NAME

DENDRITE_VERSION = 10_005_000


@dataclass(frozen=True, slots=True)
class Work:
    """What each request brings: a job, or nothing (collect only). ``url`` is where the job's circuit lies."""

    url: str = ""
    last_circuit: str = FIRST_CURSOR

    def body(self, number: int) -> bytes:
        collect = not self.url
        return json.dumps(
            {
                "name": SYNAPSE_NAME,
                "timeout": 10.0,
                "execution_id": COLLECT_ONLY if collect else f"bench-{uuid.uuid4()}-{number}",
                "shots": 0 if collect else 100,
                "configuration_data": {},
                "input_data_url": self.url,
                "last_circuit": self.last_circuit,
            }
        ).encode()


def presigned(signer: Signer, miner_hotkey: str, work: Work, count: int, port: int) -> list[bytes]:
    """``count`` requests of one dendrite (one uuid, growing nonces), to be sent in order on one connection."""
    dendrite = str(uuid.uuid1())
    return [_one(signer, miner_hotkey, dendrite, work.body(number), port) for number in range(count)]


def _one(signer: Signer, miner_hotkey: str, dendrite: str, body: bytes, port: int) -> bytes:
    nonce = time.time_ns()
    message = f"{nonce}.{signer.hotkey}.{miner_hotkey}.{dendrite}.{EMPTY_BODY_HASH}"
    headers = {
        "Host": f"127.0.0.1:{port}",
        "name": SYNAPSE_NAME,
        "timeout": "10.0",
        "bt_header_axon_ip": "127.0.0.1",
        "bt_header_axon_port": str(port),
        "bt_header_axon_hotkey": miner_hotkey,
        "bt_header_dendrite_ip": "127.0.0.1",
        "bt_header_dendrite_version": str(DENDRITE_VERSION),
        "bt_header_dendrite_nonce": str(nonce),
        "bt_header_dendrite_uuid": dendrite,
        "bt_header_dendrite_hotkey": signer.hotkey,
        "bt_header_dendrite_signature": "0x" + signer.sign(message.encode()).hex(),
        "bt_header_input_obj_execution_id": "IiI=",
        "bt_header_input_obj_shots": "MA==",
        "bt_header_input_obj_configuration_data": "e30=",
        "bt_header_input_obj_input_data_url": "IiI=",
        "bt_header_input_obj_last_circuit": "IiI=",
        "header_size": "464",
        "total_size": "7768",
        "computed_body_hash": EMPTY_BODY_HASH,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /{SYNAPSE_NAME} HTTP/1.1\r\n{lines}\r\n".encode() + body
