"""Certificates, keys and revocation lists for tests of TLS; nothing of it outlives the test."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal

import trustme
from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
KeyKind = Literal["ecdsa", "rsa", "ed25519"]

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@frozen(eq=False)
class Certificate:
    """A certificate with its key, and what leads from it to its authority.

    :param certificate: the certificate itself.
    :param key: its private key.
    :param chain: the certificates of the authorities between it and the root.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The certificate and its chain."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.chain))

    def key_pem(
        self,
        password: str | None = None,
        form: Literal["pkcs8", "traditional"] = "pkcs8",
    ) -> bytes:
        """Return the key.

        :param password: encrypts it.
        :param form: how it is written.
        """
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = BestAvailableEncryption(password.encode())
        shape = PrivateFormat.PKCS8 if form == "pkcs8" else PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(Encoding.PEM, shape, encryption)

    def write(
        self,
        directory: Path,
        name: str,
        password: str | None = None,
        form: Literal["pkcs8", "traditional"] = "pkcs8",
    ) -> tuple[str, str]:
        """Write ``name.crt``, with the chain, and ``name.key``, which only the owner may read.

        :param directory: an existing one.
        :param name: what the files are called.
        :param password: encrypts the key.
        :param form: how the key is written.
        :return: the paths of the certificate's file and of the key's.
        """
        certfile, keyfile = directory / f"{name}.crt", directory / f"{name}.key"
        certfile.write_bytes(self.pem)
        descriptor = os.open(keyfile, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.key_pem(password, form))
        return str(certfile), str(keyfile)


class Authority:
    """Issues certificates, and revokes them.

    :param name: what it is called.
    :param parent: the authority that vouches for it, none for a root.
    """

    def __init__(self, name: str = "test CA", parent: Authority | None = None) -> None:
        above = None if parent is None else parent._trustme
        self._trustme: trustme.CA = trustme.CA(above, organization_unit_name=name)
        self._parent = parent
        self.name = name
        self.certificate = x509.load_pem_x509_certificate(self.pem)
        key = load_pem_private_key(self._trustme.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._trustme.cert_pem.bytes()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates between what it issues and the root, which is not among them."""
        return () if self._parent is None else (self.certificate, *self._parent.chain)

    def write(self, directory: Path, name: str = "ca") -> str:
        """Write ``name.crt`` and return its path.

        :param directory: an existing one.
        :param name: what the file is called.
        """
        path = directory / f"{name}.crt"
        path.write_bytes(self.pem)
        return str(path)

    def intermediate(self, name: str = "test intermediate CA") -> Authority:
        """Return an authority that this one vouches for; its certificates carry their chain.

        :param name: what it is called.
        """
        return Authority(name, self)

    def server(
        self,
        *hosts: str,
        key: KeyKind = "ecdsa",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        serial: int | None = None,
        chain: bool = False,
        client_too: bool = True,
    ) -> Certificate:
        """Issue a certificate for a server.

        :param hosts: names and addresses it is valid for.
        :param key: the kind of its key.
        :param not_before: since when it is valid; yesterday if not given.
        :param not_after: until when it is valid; for a year if not given.
        :param serial: its serial number, random if not given.
        :param chain: have it issued by an intermediate authority.
        :param client_too: let its owner use it as a client, too, as members do.
        """
        usages = [SERVER, CLIENT] if client_too else [SERVER]
        issuer = self.intermediate() if chain else self
        return issuer._issue(hosts[0], hosts, usages, key, not_before, not_after, serial)

    def client(
        self,
        common_name: str,
        *names: str,
        key: KeyKind = "ecdsa",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        serial: int | None = None,
    ) -> Certificate:
        """Issue a certificate for a client.

        :param common_name: whose it is.
        :param names: alternative names: host names, addresses, mail addresses, URIs.
        :param key: the kind of its key.
        :param not_before: since when it is valid; yesterday if not given.
        :param not_after: until when it is valid; for a year if not given.
        :param serial: its serial number, random if not given.
        """
        return self._issue(common_name, names, [CLIENT], key, not_before, not_after, serial)

    def revoke(
        self,
        *certificates: Certificate,
        last_update: datetime | None = None,
        next_update: datetime | None = None,
    ) -> bytes:
        """Return a list, in PEM, of what this authority has revoked.

        :param certificates: what to revoke; without any the list is empty, and as valid.
        :param last_update: since when the list holds; yesterday if not given.
        :param next_update: until when the list holds; for a year if not given.
        """
        start, end = _period(last_update, next_update)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(start)
            .next_update(end)
            .add_extension(_issued_with(self.certificate), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for each in certificates:
            revoked = x509.RevokedCertificateBuilder().revocation_date(start)
            builder = builder.add_revoked_certificate(
                revoked.serial_number(each.certificate.serial_number).build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _issue(
        self,
        common_name: str,
        names: Sequence[str],
        usages: list[x509.ObjectIdentifier],
        kind: KeyKind,
        not_before: datetime | None,
        not_after: datetime | None,
        serial: int | None,
    ) -> Certificate:
        key = _new_key(kind)
        builder = (
            _builder(common_name, names, usages, key, _period(not_before, not_after), serial)
            .issuer_name(self.certificate.subject)
            .add_extension(_issued_with(self.certificate), critical=False)
        )
        return Certificate(builder.sign(self.key, hashes.SHA256()), key, self.chain)


def self_signed(
    *hosts: str,
    key: KeyKind = "ecdsa",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    serial: int | None = None,
) -> Certificate:
    """Make a certificate, for a server or a client, that no authority vouches for.

    :param hosts: names and addresses it is valid for.
    :param key: the kind of its key.
    :param not_before: since when it is valid; yesterday if not given.
    :param not_after: until when it is valid; for a year if not given.
    :param serial: its serial number, random if not given.
    """
    private = _new_key(key)
    period = _period(not_before, not_after)
    builder = _builder(hosts[0], hosts, [SERVER, CLIENT], private, period, serial)
    builder = builder.issuer_name(_name(hosts[0])).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False
    )
    algorithm = None if key == "ed25519" else hashes.SHA256()
    return Certificate(builder.sign(private, algorithm), private)


def _new_key(kind: KeyKind) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def _period(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    end = end or now + timedelta(days=365)
    # What is said to be over long ago must have begun before.
    return start or min(now, end) - timedelta(days=1), end


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issued_with(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _builder(
    common_name: str,
    names: Sequence[str],
    usages: list[x509.ObjectIdentifier],
    key: PrivateKey,
    period: tuple[datetime, datetime],
    serial: int | None,
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=isinstance(key, rsa.RSAPrivateKey),
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder
