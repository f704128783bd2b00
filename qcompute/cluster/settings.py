"""Settings of ``PROVIDER=cluster``: a fleet in the TOML file, or the path of one written in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from qcompute.cluster.spec import refuse_secrets
from qcompute.miner.limits import BudgetSettings


class ClusterNodeSettings(BaseModel):
    """One ``[[cluster.nodes]]`` table. Every key that is not named here is an argument of the provider."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    provider: str = Field(min_length=1)
    """Key of a node provider, or the path of one: ``my_lab.nodes:MyProvider``."""
    name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """The account's name; by default the provider's key and, from the second of them on, a number. Keep it: jobs on
    their way are found again by it."""
    connection: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{0,39}$")
    """The connection (``qcompute connections``) that gives the account, its credentials and, where none is written
    here, its budget. The account is called like it unless ``name`` says otherwise."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Settings of the account's adapter, which win over what follows from the arguments."""
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    """What may be spent with this account."""

    @model_validator(mode="after")
    def _without_secrets(self) -> Self:
        # Here already: --check-config prints every setting.
        refuse_secrets(self.arguments)
        refuse_secrets(self.settings, where="settings.")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """What the provider is given."""
        return dict(self.model_extra or {})


class ClusterSettings(BaseModel):
    """The fleet: either ``nodes`` or a ``builder``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    builder: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$")
    """Path of a `ClusterBuilder`, or of a function that returns one: ``my_lab.fleet:cluster``."""
    nodes: tuple[ClusterNodeSettings, ...] = ()
    """The accounts and their nodes."""

    @field_validator("nodes", mode="before")
    @classmethod
    def _tables(cls, given: object) -> object:
        if isinstance(given, Mapping):
            raise ValueError("write [[cluster.nodes]], in two brackets, above each account")  # noqa: TRY004 - pydantic reports ValueErrors
        return given

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.builder is not None and self.nodes:
            raise ValueError("write the fleet as cluster.nodes or name a cluster.builder, not both")
        return self
