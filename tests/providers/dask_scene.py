"""What the tests of `dask` share: circuits, waiting with a deadline, certificates, processes that end with the test."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from qcompute.miner.providers.base import JobHandle, JobReceipt, ProviderAdapter, ProviderStatus

T = TypeVar("T")
WAIT_SECONDS: Final = 90.0


def busy(qubits: int, layers: int = 8) -> str:
    """A circuit that keeps a simulator busy, twice as long for each further qubit."""
    layer = "".join(f"cu1(0.{n}1) q[{n}], q[{n + 1}];\nrx(0.3) q[{n}];\n" for n in range(qubits - 1))
    head = f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{qubits}];\ncreg c[{qubits}];\nh q;\n'
    return head + layer * layers + "measure q -> c;\n"


SLOW: Final = busy(25, 60)
"""Some minutes."""
MEDIUM: Final = busy(18)


def submitted(adapter: ProviderAdapter, source: str, token: str | None = None) -> JobHandle:
    """Submit with a token of its own."""
    submit: Callable[..., JobHandle] = adapter.submit
    return submit(source, "dask_statevector", 100, token=token or uuid.uuid4().hex)


def in_time(look: Callable[[], T]) -> T:
    """What ``look`` gives once it is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)
    return seen


def wait_for(adapter: ProviderAdapter, handle: JobHandle, wanted: ProviderStatus) -> None:
    """Poll until the status is ``wanted``; another end fails."""

    def look() -> bool:
        seen = adapter.poll(handle)
        word = ProviderStatus.of(seen.status)
        assert word is wanted or not word.is_terminal, seen
        return word is wanted

    in_time(look)


def end_of(adapter: ProviderAdapter, handle: JobHandle) -> JobReceipt:
    """Its receipt, when it has ended."""
    in_time(lambda: ProviderStatus.of(adapter.poll(handle).status).is_terminal)
    return adapter.get_job_receipt(handle)


def certificates(folder: Path) -> dict[str, Path]:
    """An authority and a certificate it signed, as the three settings."""
    authority, ca_key = _certificate("authority", None)
    certificate, key = _certificate("miner", (authority, ca_key))
    files = {name: folder / f"{name}.pem" for name in ("tls_ca_file", "tls_cert_file", "tls_key_file")}
    files["tls_ca_file"].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files["tls_cert_file"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files["tls_key_file"].touch(mode=0o600)
    files["tls_key_file"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _certificate(
    name: str, signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    return builder.sign(signer[1] if signer else key, hashes.SHA256()), key
