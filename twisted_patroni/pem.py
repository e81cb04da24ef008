"""PEM files that the configuration names: read once, and every error names its key."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from twisted_patroni.settings import SettingsError

if TYPE_CHECKING:
    from datetime import datetime

PrivateKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

_REVOCATION_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
# What cryptography raises, late, at parts of a certificate that OpenSSL is content with.
_UNREADABLE = (
    TypeError,
    ValueError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)


class TlsError(SettingsError):
    """A file of TLS is missing or wrong, or does not fit another; one line that names the key."""


@frozen
class PemFile:
    """The content of a file, as it was when it was read.

    :param key: where the configuration names it, as ``restapi.certfile``.
    :param path: the file.
    :param content: what it held.
    :param exposed: more accounts may read it than PostgreSQL would allow for a key.
    """

    key: str
    path: str
    content: bytes = field(repr=False)
    exposed: bool = False

    @classmethod
    def read(cls, key: str, path: str) -> PemFile:
        """Read a file; blocks.

        :param key: where the configuration names it.
        :param path: the file.
        :raise TlsError: if it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                content = file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TlsError(f"{key}: cannot read {path}: {reason}") from error
        # As PostgreSQL has it: what belongs to root may be read by a group, as of ssl-cert.
        group = stat.S_IRGRP if status.st_uid == 0 else 0
        exposed = status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~group
        return cls(key, path, content, bool(exposed))

    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Return the certificates in this file, at least one.

        :raise TlsError: if there is none, or one that cannot be read.
        """
        if b"-----BEGIN CERTIFICATE-----" not in self.content:
            raise TlsError(f"{self.key}: {self.path} holds no certificate in PEM")
        try:
            return tuple(x509.load_pem_x509_certificates(self.content))
        except ValueError as error:
            raise self._damaged("certificate", error) from error

    def revocation_lists(self) -> tuple[x509.CertificateRevocationList, ...]:
        """Return the certificate revocation lists in this file, at least one.

        :raise TlsError: if there is none, or one that cannot be read.
        """
        try:
            found = _REVOCATION_LIST.findall(self.content)
            lists = tuple(x509.load_pem_x509_crl(each) for each in found)
        except ValueError as error:
            raise self._damaged("revocation list", error) from error
        if not lists:
            raise TlsError(f"{self.key}: {self.path} holds no revocation list in PEM")
        return lists

    def private_key(self, password: str | None) -> PrivateKey:
        """Return the private key in this file.

        :param password: decrypts it; of no consequence if it is not encrypted.
        :raise TlsError: if there is none, or the password is wrong.
        """
        if b"PRIVATE KEY-----" not in self.content:
            raise TlsError(f"{self.key}: {self.path} holds no private key in PEM")
        secret = None if password is None else password.encode()
        try:
            key = load_pem_private_key(self.content, secret)
        except TypeError as error:
            if password is not None:
                return self.private_key(None)
            section = self.key.rpartition(".")[0]
            raise TlsError(
                f"{self.key}: {self.path} is encrypted, and there is no {section}.keyfile_password"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            if secret is not None and b"ENCRYPTED" in self.content:
                raise TlsError(f"{self.key}: the password is wrong") from error
            raise self._damaged("private key", error) from error
        if not isinstance(key, PrivateKey):
            raise TlsError(f"{self.key}: {self.path} holds a key of a kind that TLS cannot use")
        return key

    def _damaged(self, what: str, error: Exception) -> TlsError:
        reason = " ".join(str(error).split()).partition(" See ")[0]
        return TlsError(f"{self.key}: {self.path} holds no usable {what}: {reason}")


def matching_key(
    certfile: PemFile, certificate: x509.Certificate, keyfile: PemFile, password: str | None
) -> PrivateKey:
    """Return the private key of a certificate.

    :param certfile: where the certificate is from.
    :param certificate: the certificate.
    :param keyfile: where the key should be.
    :param password: decrypts it; of no consequence if it is not encrypted.
    :raise TlsError: if there is none, the password is wrong, or it is another certificate's.
    """
    key = keyfile.private_key(password)
    try:
        fits = certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise TlsError(
            f"{keyfile.key}: {keyfile.path} does not belong to the certificate in {certfile.path}"
        )
    return key


@frozen
class CertificateFacts:
    """What people ask of a certificate.

    :param serial: its serial number, in the digits of Patroni's log.
    :param subject: whose it is (RFC 4514).
    :param not_before: since when it is valid.
    :param not_after: until when it is valid.
    :param names: its alternative names, as ``DNS:a.example.com``, ``IP:10.0.0.7``,
        ``email:a@example.com``, ``URI:spiffe://x/y``.
    """

    serial: str
    subject: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateFacts:
        """Read a certificate.

        :param certificate: the certificate.
        """
        return cls(
            serial_text(certificate.serial_number),
            subject_text(certificate),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            alternative_names(certificate),
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names and addresses it is valid for."""
        return tuple(
            name.partition(":")[2] for name in self.names if name.startswith(("DNS:", "IP:"))
        )


def serial_text(serial: int) -> str:
    """Write a serial number as OpenSSL and Patroni do: hexadecimal, whole bytes.

    :param serial: the number.
    """
    digits = f"{serial:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


def subject_text(certificate: x509.Certificate) -> str:
    """Return the subject (RFC 4514), empty if it cannot be read.

    :param certificate: any certificate, odd ones included.
    """
    try:
        return certificate.subject.rfc4514_string()
    except _UNREADABLE:
        return ""


def serves(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    """Tell whether a certificate may be used for something; one that says nothing is for all.

    :param certificate: any certificate, odd ones included.
    :param usage: for what.
    """
    try:
        return usage in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except _UNREADABLE:
        return True


def alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the alternative names, none if they cannot be read.

    :param certificate: any certificate, odd ones included.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except _UNREADABLE:
        return ()
    kinds: tuple[tuple[str, type[x509.GeneralName]], ...] = (
        ("DNS", x509.DNSName),
        ("IP", x509.IPAddress),
        ("email", x509.RFC822Name),
        ("URI", x509.UniformResourceIdentifier),
    )
    return tuple(
        f"{kind}:{name.value}"
        for name in extension.value
        for kind, shape in kinds
        if isinstance(name, shape)
    )
