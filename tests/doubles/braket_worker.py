"""Runs Braket programs and hosts S3 for the Braket double, in the environment ``.venv-braket``.

Amazon's own simulator, its own schemas and moto's S3, so that neither what a program means nor what a result looks
like is our invention. Requests:

- ``{"do": "run", "action", "shots"}`` gives ``results.json``
- ``{"do": "state", "action"}`` gives amplitudes as pairs, qubit 0 most significant
- ``{"do": "s3"}`` gives the URL of the S3 server
- ``{"do": "put", "bucket", "key", "text"}`` stores an object there
- ``{"do": "check", "schema", "text"}`` reads a device's capabilities as Amazon's SDK does
"""

# This runs in another environment, whose packages the type checker does not see.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import importlib
import json
import logging
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from braket.default_simulator import StateVectorSimulator
from braket.ir.openqasm import Program
from moto.server import ThreadedMotoServer

from tests.doubles.worker import serve

SCHEMAS = {
    "ionq": "braket.device_schema.ionq:IonqDeviceCapabilities",
    "iqm": "braket.device_schema.iqm:IqmDeviceCapabilities",
    "aqt": "braket.device_schema.aqt:AqtDeviceCapabilities",
    "simulator": "braket.device_schema.simulators:GateModelSimulatorDeviceCapabilities",
}


def answer(request: dict[str, Any]) -> Any:
    match request["do"]:
        case "run":
            program = Program.parse_raw(request["action"])
            return json.loads(StateVectorSimulator().run(program, shots=request["shots"]).json())
        case "state":
            program = Program.parse_raw(request["action"])
            (result,) = StateVectorSimulator().run(program, shots=0).resultTypes
            return [[value.real, value.imag] for value in result.value]
        case "put":
            put(request["bucket"], request["key"], request["text"])
            return None
        case "s3":
            return s3_url()
        case "check":
            module, name = SCHEMAS[request["schema"]].split(":")
            getattr(importlib.import_module(module), name).parse_raw_schema(request["text"])
            return None
        case unknown:
            raise ValueError(f"nothing is called {unknown}")


@cache
def s3_url() -> str:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or each request is a line on the test's screen
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


@cache
def client() -> Any:
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3_url(),
        aws_access_key_id="worker",
        aws_secret_access_key="worker",
        config=Config(s3={"addressing_style": "path"}),
    )


def put(bucket: str, key: str, text: str) -> None:
    client().create_bucket(Bucket=bucket)
    client().put_object(Bucket=bucket, Key=key, Body=text.encode())


if __name__ == "__main__":
    serve(answer)
