"""How large a circuit may be, how long it may take, and where it may come from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CircuitSettings(BaseModel):
    """Limits on one circuit, before any device's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_source_bytes: int = Field(default=4 << 20, ge=1024)
    """Size of the program's text; 4 MiB hold 100,000 gates with angles of 17 digits. Up to 192 are held at once."""

    max_qubits: int = Field(default=4096, ge=1)
    """Qubits declared, before a device is chosen; stabilizer and MPS simulators go furthest."""

    max_clbits: int = Field(default=4096, ge=1)
    """Classical bits declared: the length of every key of the counts."""

    max_ops: int = Field(default=2_000_000, ge=1)
    """Operations after loops, gate definitions and broadcasts are expanded, estimated without expanding them."""

    max_nesting: int = Field(default=48, ge=4)
    """Brackets within brackets; parsers recurse on them."""

    compile_wall_seconds: float = Field(default=120, gt=0)
    """The longest parsing may take on a machine that is busy with other things; the CPU time is the real limit."""

    compile_cpu_seconds: float = Field(default=45, gt=0)
    """CPU time for the same: 100,000 gates take about 10 s plain, and 20 s in loops or as gates of
    their own. Holds even when the parser cannot be interrupted."""

    compile_memory_bytes: int = Field(default=3 << 30, ge=512 << 20)
    """Address space of the parsing process; qiskit alone takes 1.2 GB of it (200 MB resident). 100,000 gates that are
    calls of gates within gates take 2.6 GB (1.4 GB resident)."""


class DownloadSettings(BaseModel):
    """Where circuits may be downloaded from, and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_hosts: tuple[str, ...] = ()
    """``host`` or ``host:port`` for which plain http, private addresses and any port are allowed. Empty: https,
    public addresses and ports 443 and above 1023 only, so that no validator makes this machine call its own network."""

    total_seconds: float = Field(default=60, gt=0)
    """The longest one try may take, redirects and all; this also ends downloads that drip."""

    connect_seconds: float = Field(default=10, gt=0)
    """The longest a connection may take to be made."""

    idle_seconds: float = Field(default=20, gt=0)
    """The longest silence within a download."""

    max_redirects: int = Field(default=3, ge=0, le=10)
    """Redirects followed; each target is checked like the first address."""
