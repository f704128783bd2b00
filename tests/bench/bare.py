"""The limit: a Starlette endpoint on uvicorn that checks one signature and answers a constant. Nothing is stored."""

from __future__ import annotations

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from qcompute.chain.keys import verify_signature
from qcompute.protocol import SYNAPSE_NAME
from qcompute.units import Hotkey


def app(miner_hotkey: str) -> Starlette:
    """One route, one signature check."""

    async def circuit_synapse(request: Request) -> JSONResponse:
        await request.body()
        headers = request.headers
        hotkey = headers["bt_header_dendrite_hotkey"]
        parts = (headers["bt_header_dendrite_nonce"], hotkey, miner_hotkey, headers["bt_header_dendrite_uuid"])
        message = ".".join((*parts, headers["computed_body_hash"])).encode()
        signature = bytes.fromhex(headers["bt_header_dendrite_signature"][2:])
        if not verify_signature(message, signature, Hotkey(hotkey)):
            return JSONResponse({"message": "no"}, status_code=401)
        return JSONResponse({"success": True})

    return Starlette(routes=[Route(f"/{SYNAPSE_NAME}", circuit_synapse, methods=["POST"])])


def main() -> None:
    """``python -m tests.bench.bare <miner hotkey>``: prints the port, serves until killed."""
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app(sys.argv[1]), log_level="critical", access_log=False, loop="uvloop", http="httptools")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
