"""The certificates of a cluster over TLS: makes them, and lets HTTP clients use them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.web.client import BrowserLikePolicyForHTTPS

from twisted_patroni.demo.layout import AUTHORITY, CLIENT, HOST, CannotStart, Keys
from twisted_patroni.demo.record import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    import trustme
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

_ORGANIZATION = "twisted-patroni demo"
_BACKDATED = timedelta(days=1)
_VALID = timedelta(days=365)
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
    try:
        authority = _authority(keys)
        for name in servers:
            _issue(keys, name, authority, now, HOST, "localhost")
        _issue(keys, CLIENT, authority, now, f"{CLIENT}@localhost")
    except ValueError:
        raise CannotStart(
            f"{keys.directory} holds a damaged certificate or key: remove it, and all are made anew"
        ) from None


def _authority(keys: Keys) -> trustme.CA:
    import trustme  # of the extra "demo"

    certificate, key = keys.certificate(AUTHORITY), keys.key(AUTHORITY)
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name=_ORGANIZATION, organization_unit_name="authority")
    _write(key, authority.private_key_pem)
    _write(certificate, authority.cert_pem)
    return authority


def _issue(keys: Keys, name: str, authority: trustme.CA, now: datetime, *names: str) -> None:
    certificate, key = keys.certificate(name), keys.key(name)
    there = certificate.exists() and key.exists()
    if there and _is_good(certificate.read_bytes(), authority, now):
        return
    leaf = authority.issue_cert(
        *names,
        common_name=name,
        organization_name=_ORGANIZATION,
        organization_unit_name="cluster",
        not_before=now - _BACKDATED,
        not_after=now + _VALID,
    )
    _write(key, leaf.private_key_pem)
    _write(certificate, leaf.cert_chain_pems[0])


def _is_good(pem: bytes, authority: trustme.CA, now: datetime) -> bool:
    certificate = load_pem_x509_certificate(pem)
    if certificate.not_valid_after_utc < now + _RENEWED:
        return False
    try:
        certificate.verify_directly_issued_by(load_pem_x509_certificate(authority.cert_pem.bytes()))
    except (ValueError, InvalidSignature):
        return False
    return True


def _write(path: Path, pem: trustme.Blob) -> None:
    write_private(path, pem.bytes().decode("ascii"))


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
            options["certificate"] = load_pem_x509_certificate(certificate)
            options["privateKey"] = load_pem_private_key(key, None)
        return optionsForClientTLS(
            hostname.decode("ascii"),
            trustRoot=Certificate.loadPEM(self._authority.read_bytes()),
            extraCertificateOptions=options,
        )
