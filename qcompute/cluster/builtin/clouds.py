"""Nodes of cloud accounts: Azure Quantum, IBM Quantum and Amazon Braket, through the adapters of these vendors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, Field, field_validator, model_validator
from typing_extensions import override

from qcompute.cluster.builtin.vendor import NodeArguments, SecretName, VendorProvider
from qcompute.cluster.spec import DEVICE_TYPE, NodeType, QPUNodeSpec
from qcompute.errors import ConfigError
from qcompute.units import ProviderKey
from qcompute.vendor.azure.wire import KNOWN, NO_CIRCUITS

AZURE_TARGETS: Final = (
    "rigetti.qpu.ankaa-3",
    "quantinuum.qpu.h2-1",
    "ionq.qpu.forte-1",
    "microsoft.estimator",
)
"""The targets the specification lists; which of them a workspace has, Azure says."""

_RESOURCE: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.Quantum/"
    r"Workspaces/(?P<workspace>[^/]+)/?",
    re.IGNORECASE,
)
_NO_RUN: Final = "it estimates or takes other programs than circuits: no circuit is ever sent there"


class AzureArguments(NodeArguments):
    """Arguments of ``azure_quantum``. The last four say how to be let in: a key, or a service principal."""

    azure_resource_id: str
    """The workspace: ``/subscriptions/…/resourceGroups/…/providers/Microsoft.Quantum/Workspaces/…``."""
    subscription_id: str
    """The Azure subscription's id, a GUID."""
    targets: tuple[str, ...] = Field(default=AZURE_TARGETS, min_length=1)
    """Targets to use."""
    location: str = "eastus"
    """The workspace's region."""
    access_key: SecretName = "azure_quantum"
    """Name of the secret that holds the workspace's access key; not used with a service principal."""
    tenant_id: str = ""
    """Service principal: the directory's id."""
    client_id: str = ""
    """Service principal: the application's id."""
    client_secret: SecretName | None = None
    """Service principal: name of the secret that holds the application's client secret."""

    @model_validator(mode="after")
    def _one_workspace(self) -> Self:
        found = _RESOURCE.fullmatch(self.azure_resource_id)
        if found is None:
            raise ValueError("azure_resource_id is /subscriptions/…/providers/Microsoft.Quantum/Workspaces/<name>")
        if found["subscription"].lower() != self.subscription_id.lower():
            raise ValueError("azure_resource_id is of another subscription than subscription_id")
        return self

    @property
    def workspace(self) -> tuple[str, str]:
        """Resource group and name of the workspace."""
        found = _RESOURCE.fullmatch(self.azure_resource_id)
        return ("", "") if found is None else (found["group"], found["workspace"])


class AzureQuantum(VendorProvider[AzureArguments]):
    """Targets of one Azure Quantum workspace; a node is a target."""

    DISPLAY_NAME: ClassVar[str] = "Azure Quantum"
    Arguments: ClassVar[type[BaseModel] | None] = AzureArguments
    vendor: ClassVar[ProviderKey] = ProviderKey("azure")
    account_words: ClassVar[Mapping[str, str]] = {
        **{name: name for name in ("subscription_id", "location", "access_key")},
        **{name: name for name in ("tenant_id", "client_id", "client_secret")},
        **dict.fromkeys(("resource_group", "workspace"), "azure_resource_id"),
        "devices": "targets",
    }
    derived: ClassVar[frozenset[str]] = frozenset({"resource_group", "workspace"})

    @override
    def nodes(self, arguments: AzureArguments) -> list[QPUNodeSpec]:
        return [_azure_node(target, arguments) for target in arguments.targets]

    @override
    def config(self, arguments: AzureArguments) -> dict[str, Any]:
        group, workspace = arguments.workspace
        where = {
            "subscription_id": arguments.subscription_id,
            "resource_group": group,
            "workspace": workspace,
            "location": arguments.location,
            "devices": [target for target in arguments.targets if not target.startswith(NO_CIRCUITS)],
        }
        if arguments.client_secret is None:
            return where | {"access_key": arguments.access_key}
        names = ("tenant_id", "client_id", "client_secret")
        return where | {name: getattr(arguments, name) for name in names}

    @classmethod
    @override
    def arguments_of(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        subscription, group, workspace = (
            settings.get(name, "") for name in ("subscription_id", "resource_group", "workspace")
        )
        resource = (
            f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Quantum/Workspaces/{workspace}"
        )
        return super().arguments_of(settings) | {"azure_resource_id": resource}

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str]:
        targets = cls.arguments(arguments).targets
        return Counter("no circuits" if target.startswith(NO_CIRCUITS) else _azure_kind(target) for target in targets)


def _azure_kind(target: str) -> str:
    return "simulator" if ".sim" in target else "QPU"


def _azure_node(target: str, arguments: AzureArguments) -> QPUNodeSpec:
    width, _ = KNOWN.get(target, (0, None))
    secret = {"access_key": arguments.access_key}
    if arguments.client_secret is not None:
        secret = {"client_secret": arguments.client_secret}
    metadata: dict[str, Any] = {"location": arguments.location}
    if _azure_kind(target) == "simulator":
        metadata[DEVICE_TYPE] = "SIMULATOR"
    tags = ["azure", target.partition(".")[0]]
    node = QPUNodeSpec(target, NodeType.QPU_AZURE, width, tags=tags, credentials=secret, metadata=metadata)
    return node.taken_offline(_NO_RUN) if target.startswith(NO_CIRCUITS) else node


class IbmArguments(NodeArguments):
    """Arguments of ``ibm_quantum``."""

    ibm_token: SecretName
    """Name of the secret that holds the API key; never the key itself."""
    instance: str = "ibm-q/open/main"
    """The instance's CRN. The specification's default is of IBM's old platform, which has ended, and is refused."""
    backends: tuple[str, ...] = ()
    """Backends to use; none named: all of the instance."""


class IbmQuantum(VendorProvider[IbmArguments]):
    """Backends of one IBM Quantum instance; a node is a backend."""

    DISPLAY_NAME: ClassVar[str] = "IBM Quantum"
    Arguments: ClassVar[type[BaseModel] | None] = IbmArguments
    vendor: ClassVar[ProviderKey] = ProviderKey("ibm")
    account_words: ClassVar[Mapping[str, str]] = {"token": "ibm_token", "instance": "instance", "devices": "backends"}
    default_type: ClassVar[NodeType | None] = NodeType.QPU_IBM

    @override
    def nodes(self, arguments: IbmArguments) -> list[QPUNodeSpec]:
        secret = {"token": arguments.ibm_token}
        return [QPUNodeSpec(name, NodeType.QPU_IBM, 0, tags=["ibm"], credentials=secret) for name in arguments.backends]

    @override
    def config(self, arguments: IbmArguments) -> dict[str, Any]:
        if not arguments.instance.startswith("crn:"):
            raise ConfigError(
                f"instance = {arguments.instance!r} is of IBM's old platform, which has ended: "
                "set instance to the CRN that IBM's dashboard shows (crn:v1:…)"
            )
        return {"token": arguments.ibm_token, "instance": arguments.instance, "devices": list(arguments.backends)}

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str] | None:
        return Counter(QPU=named) if (named := len(cls.arguments(arguments).backends)) else None


_AWS_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_ARN: Final = re.compile(r"arn:aws:braket:[a-z0-9-]*::device/(qpu|quantum-simulator)/[^/\s]+/[^/\s]+")


class BraketArguments(NodeArguments):
    """Arguments of ``aws_braket``. The last three name the secrets of the access key."""

    aws_region: str = "us-east-1"
    """AWS region; those of the named devices are added."""
    s3_bucket: str
    """Bucket for results."""
    s3_prefix: str = "qcos"
    """Folder of the results in the bucket."""
    devices: tuple[str, ...] = ()
    """ARNs of the devices to use; none named: all of the region that take circuits."""
    access_key_id: SecretName = "aws_access_key_id"
    """Name of the secret with the access key's id."""
    secret_access_key: SecretName = "aws_secret_access_key"  # noqa: S105 - a name
    """Name of the secret with the access key itself."""
    session_token: SecretName | None = None
    """Name of the secret with a temporary key's token."""

    @field_validator("aws_region")
    @classmethod
    def _region(cls, given: str) -> str:
        if _AWS_REGION.fullmatch(given) is None:
            raise ValueError("an AWS region is written like us-east-1")
        return given

    @field_validator("devices")
    @classmethod
    def _arns(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_ARN.fullmatch, given)):
            raise ValueError("a device is named by its ARN, like arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet")
        return given


class AwsBraket(VendorProvider[BraketArguments]):
    """Devices of one AWS account; a node is a device, its id the ARN."""

    DISPLAY_NAME: ClassVar[str] = "AWS Braket"
    Arguments: ClassVar[type[BaseModel] | None] = BraketArguments
    vendor: ClassVar[ProviderKey] = ProviderKey("braket")
    account_words: ClassVar[Mapping[str, str]] = {
        **{name: name for name in ("access_key_id", "secret_access_key", "session_token", "devices")},
        "bucket": "s3_bucket",
        "key_prefix": "s3_prefix",
        **dict.fromkeys(("regions", "include_simulators"), "devices"),
    }
    derived: ClassVar[frozenset[str]] = frozenset({"regions", "include_simulators"})
    default_type: ClassVar[NodeType | None] = NodeType.QPU_BRAKET

    @override
    def nodes(self, arguments: BraketArguments) -> list[QPUNodeSpec]:
        secrets = {key: name for key in _AWS_SECRETS if (name := getattr(arguments, key)) is not None}
        return [
            QPUNodeSpec(
                arn,
                NodeType.QPU_BRAKET,
                0,
                tags=["braket", *arn.split("/")[2:3]],
                credentials=secrets,
                metadata={DEVICE_TYPE: "SIMULATOR"} if _is_simulator(arn) else {},
            )
            for arn in arguments.devices
        ]

    @override
    def config(self, arguments: BraketArguments) -> dict[str, Any]:
        regions = [arguments.aws_region, *(region for arn in arguments.devices if (region := _region(arn)))]
        secrets = {key: name for key in _AWS_SECRETS if (name := getattr(arguments, key)) is not None}
        return secrets | {
            "regions": list(dict.fromkeys(regions)),
            "bucket": arguments.s3_bucket,
            "key_prefix": arguments.s3_prefix,
            "devices": list(arguments.devices),
            "include_simulators": any(map(_is_simulator, arguments.devices)),
        }

    @classmethod
    @override
    def arguments_of(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        first = [{"aws_region": region} for region in settings.get("regions", ())[:1]]
        return super().arguments_of(settings) | (first[0] if first else {})

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str] | None:
        arns = cls.arguments(arguments).devices
        return Counter("simulator" if _is_simulator(arn) else "QPU" for arn in arns) or None


_AWS_SECRETS: Final = ("access_key_id", "secret_access_key", "session_token")


def _is_simulator(arn: str) -> bool:
    return ":device/quantum-simulator/" in arn


def _region(arn: str) -> str:
    """The region in a device's ARN; empty for devices of all regions, as Amazon's simulators are."""
    parts = arn.split(":")
    return "".join(parts[3:4])  # arn:aws:braket:<region>:…
