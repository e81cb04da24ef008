"""The certificates of a cluster over TLS: makes them, and lets HTTP clients use them."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.web.client import BrowserLikePolicyForHTTPS

from twisted_patroni.demo.layout import AUTHORITY, CLIENT, HOST, CannotStart, Keys
from twisted_patroni.demo.record import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

_BACKDATED = timedelta(days=1)
_VALID = timedelta(days=365)
_AUTHORITY_VALID = timedelta(days=3650)
_RENEWED = timedelta(days=30)
"""How long before its end a certificate is replaced."""


def issue(keys: Keys, servers: Iterable[str], now: datetime) -> None:
    """Make what is missing: the authority, a certificate for each server, and the client's.

    Those that are there are kept, unless they end soon or come from another authority.

    :param keys: where they go; the directory exists.
    :param servers: the names of the servers; all are on loopback.
    :param now: the present time.
    :raise CannotStart: if what is there cannot be read.
    """
    loopback = (x509.DNSName("localhost"), x509.IPAddress(ip_address(HOST)))
    try:
        authority = _Authority.of(keys, now)
        for name in servers:
            authority.provide(keys, name, now, *loopback)
        authority.provide(keys, CLIENT, now, x509.RFC822Name(f"{CLIENT}@localhost"))
    except (ValueError, TypeError):
        raise CannotStart(
            f"{keys.directory} holds a damaged certificate or key: remove it, and all are made anew"
        ) from None


@frozen
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, keys: Keys, now: datetime) -> _Authority:
        """Return the one that is there, or a new one."""
        certificate, key = keys.certificate(AUTHORITY), keys.key(AUTHORITY)
        if certificate.exists() and key.exists():
            known = load_pem_private_key(key.read_bytes(), None)
            if not isinstance(known, ec.EllipticCurvePrivateKey):
                raise TypeError
            return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), known)
        new = ec.generate_private_key(ec.SECP256R1())
        name = _name("authority")
        builder = _builder(name, new, name, new, now, _AUTHORITY_VALID).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        signed = builder.add_extension(_usage(signs=True), critical=True).sign(new, hashes.SHA256())
        _write(keys, AUTHORITY, signed, new)
        return cls(signed, new)

    def provide(self, keys: Keys, name: str, now: datetime, *names: x509.GeneralName) -> None:
        """Make a certificate, if there is none that may be kept.

        :param keys: where it goes.
        :param name: whose it is.
        :param now: the present time.
        :param names: the addresses it is valid for.
        """
        there = keys.certificate(name).exists() and keys.key(name).exists()
        if there and self._keeps(keys.certificate(name).read_bytes(), now):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        signed = (
            _builder(_name(name), key, self.certificate.subject, self.key, now, _VALID)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        _write(keys, name, signed, key)

    def _keeps(self, pem: bytes, now: datetime) -> bool:
        certificate = x509.load_pem_x509_certificate(pem)
        if certificate.not_valid_after_utc < now + _RENEWED:
            return False
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, InvalidSignature):
            return False
        return True


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "twisted-patroni demo"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lasting: timedelta,
) -> x509.CertificateBuilder:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lasting)
        .add_extension(own, critical=False)
        .add_extension(issuers, critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    keys: Keys, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(keys.key(name), pem.decode("ascii"))
    write_private(keys.certificate(name), certificate.public_bytes(Encoding.PEM).decode("ascii"))


class ClientPolicy(BrowserLikePolicyForHTTPS):
    """Trusts the servers of one authority only, and may show them a certificate.

    The files are read for each connection.

    :param authority: the authority's certificate.
    :param shown: the certificate to show, and its key.
    """

    def __init__(self, authority: Path, shown: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        self._authority = authority
        self._shown = shown

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return what begins a TLS connection.

        :param hostname: the name in the URL, which the server's certificate must have.
        :param port: the port in the URL.
        :raise FileNotFoundError: while the files are not written.
        """
        options: dict[str, Any] = {}
        if self._shown is not None:
            certificate, key = (path.read_bytes() for path in self._shown)
            # Not clientCertificate: what Twisted makes of that, pyOpenSSL deprecates.
            options["certificate"] = x509.load_pem_x509_certificate(certificate)
            options["privateKey"] = load_pem_private_key(key, None)
        return optionsForClientTLS(
            hostname.decode("ascii"),
            trustRoot=Certificate.loadPEM(self._authority.read_bytes()),
            extraCertificateOptions=options,
        )
