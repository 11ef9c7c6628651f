"""Certificates for tests, as an authority of ours makes them."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self._own = self._signed(name, self._key.public_key(), authority=True)
        self.file.write_bytes(self._own.public_bytes(Encoding.PEM))

    def certificate(self, name: str, hours: float | None = None, until: datetime | None = None) -> tuple[Path, Path]:
        """A certificate and its key; valid from 2025 ``until`` tomorrow, or for an hour that begins in ``hours``."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(self._signed(name, key.public_key(), hours=hours, until=until).public_bytes(Encoding.PEM))
        files[1].touch(0o600)
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        authority: bool = False,
        hours: float | None = None,
        until: datetime | None = None,
    ) -> x509.Certificate:
        begin, end = datetime(2025, 1, 1, tzinfo=UTC), until or datetime.now(UTC) + timedelta(days=1)
        if hours is not None:
            begin = datetime.now(UTC) + timedelta(hours=hours)
            end = begin + timedelta(hours=1)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = x509.CertificateBuilder(_name(self.name), _name(name), key, x509.random_serial_number(), begin, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
