"""Nodes as data: what they say, and what they refuse to hold."""

from __future__ import annotations

from typing import Any

import pytest

from qcompute.cluster.spec import DEVICE, DEVICE_TYPE, NodeType, QPUNodeSpec, refuse_secrets

KEY = "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"


def test_the_types_are_those_of_the_specification() -> None:
    names = ["GPU_AER", "GPU_TENSOR", "CPU_AER", "CPU_NUMPY", "QPU_IBM", "QPU_IONQ", "QPU_AZURE", "QPU_BRAKET"]
    assert [kind.name for kind in NodeType] == names
    assert [kind.name for kind in NodeType if kind.is_qpu] == names[4:]


def test_a_node_has_the_fields_of_the_specification_with_their_defaults() -> None:
    node = QPUNodeSpec("n", NodeType.CPU_AER, 30)
    assert (node.tags, node.credentials, node.online, node.metadata) == ([], {}, True, {})
    assert (node.device_id, node.device_type, node.offline_reason) == ("n", "SIMULATOR", None)


def test_the_device_may_be_called_otherwise_and_be_a_cloud_s_simulator() -> None:
    node = QPUNodeSpec("n", NodeType.QPU_BRAKET, 34, metadata={DEVICE: "sv1", DEVICE_TYPE: "SIMULATOR"})
    assert (node.device_id, node.device_type) == ("sv1", "SIMULATOR")
    assert QPUNodeSpec("n", NodeType.QPU_IBM, 0).device_type == "QPU"


def test_offline_says_why_and_coming_back_forgets_it() -> None:
    node = QPUNodeSpec("n", NodeType.CPU_AER, 30, metadata={"region": "here"})
    down = node.taken_offline("no power")
    assert (down.online, down.offline_reason) == (False, "no power")
    assert down.brought_online() == node


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        "sk-live-1234",
        "0f3a9c5b7e1d2f4a6b8c",
        "abcdefghijklmnopqrstuvwxyzabcdef",
        "Hunter2!",
        "",
        7,
        {"nested": KEY},
    ],
)
def test_credentials_are_names_and_a_value_is_refused_unseen(value: Any) -> None:
    with pytest.raises(ValueError, match=r"QCOMPUTE_SECRET_<NAME>") as raised:
        QPUNodeSpec("n", NodeType.QPU_IBM, 5, credentials={"token": value})
    assert not value or str(value) not in str(raised.value)


@pytest.mark.parametrize("name", ["ibm_lab", "aws_secret_access_key", "k", "lab2_token", "ibm_2026_berlin_lab"])
def test_names_are_taken(name: str) -> None:
    assert name in repr(QPUNodeSpec("n", NodeType.QPU_IBM, 5, credentials={"token": name}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"ibm_token": KEY},
        {"api_key": KEY},
        {"lab": {"password": "Hunter2!"}},
        {"accounts": [{"client_secret": KEY}]},
        {"endpoints": ["http://ok.example", "https://me:hunter2@lab.example/api"]},
        {"url": "https://token@lab.example"},
        {"Authorization": f"Bearer {KEY}"},
        {"headers": {"X-Api-Key": KEY}},
        {"accessKey": KEY},
        {"AZURE_CONNECTION_STRING": KEY},
        {"credentials": ["lab_name", KEY]},
        {"endpoints": [f"https://lab.example/run?api_key={KEY}"]},
        {"endpoints": [f"https://lab.example/run?v=1&sig={KEY}"]},
    ],
)
def test_nothing_that_must_not_be_printed_passes(arguments: dict[str, Any]) -> None:
    """Other spellings than ``api_key`` passed, and a key in a URL's query, and `describe` printed them."""
    with pytest.raises(ValueError, match="name") as raised:
        refuse_secrets(arguments)
    assert KEY not in str(raised.value)
    assert "unter2" not in str(raised.value)
    with pytest.raises(ValueError, match="name"):
        QPUNodeSpec("n", NodeType.CPU_AER, 5, metadata=arguments)


def test_what_only_sounds_like_a_secret_is_let_through() -> None:
    refuse_secrets({"s3_prefix": "a/b", "key_prefix": "Results!", "max_tokens": 5, "api_key": "", "token": None})


def test_whether_a_secret_is_used_is_none() -> None:
    """``use_auth = true`` of an operator's own provider was refused as no name of a secret, and with it the fleet."""
    refuse_secrets({"use_auth": True, "auth": False, "body": {"auth": True}, "credentials": [True, "lab_token"]})


@pytest.mark.parametrize(("node_id", "width"), [("", 1), ("n", -1)])
def test_a_node_has_an_id_and_a_width(node_id: str, width: int) -> None:
    with pytest.raises(ValueError, match="needs an id"):
        QPUNodeSpec(node_id, NodeType.CPU_AER, width)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (("n", "cpu_nump", 3), "'cpu_nump' is no node type; there are gpu_aer, .*qpu_braket"),
        (("n", NodeType.CPU_AER, "3"), "needs an id"),
        ((7, NodeType.CPU_AER, 3), "needs an id"),
        (("n", NodeType.CPU_AER, True), "needs an id"),
        (("n", NodeType.CPU_AER, 3, "lab"), "tags are a list of words"),
    ],
)
def test_a_field_of_another_type_is_refused_where_it_is_written(fields: Any, told: str) -> None:
    """A misspelt type was taken, and raised AttributeError when somebody asked for the node's status."""
    with pytest.raises(ValueError, match=told):
        QPUNodeSpec(*fields)


def test_a_type_may_be_written_as_in_toml() -> None:
    """It stayed a text, which is no QPU whatever it says."""
    written: Any = "qpu_ionq"
    node = QPUNodeSpec("n", written, 3)
    assert node.node_type is NodeType.QPU_IONQ
    assert node.device_type == "QPU"
