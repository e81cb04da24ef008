"""How a client speaks TLS: whom it trusts, what it shows, and when it does not look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

#: Servers whose contexts are kept.
REMEMBERED = 100


class TlsError(ValueError):
    """A file is missing or wrong, or does not fit another; one line that names it."""


@frozen
class TlsFiles:
    """Where everything is that TLS needs.

    :param cafile: authorities to trust; ``None`` for those of the system.
    :param certfile: the certificate to show, with what leads to its authority.
    :param keyfile: its key; ``None`` if that is in the same file.
    :param keyfile_password: decrypts the key.
    :param insecure: trust every server, whatever its certificate.
    """

    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    insecure: bool = False


def load_policy(files: TlsFiles) -> TlsPolicy:
    """Read the files and make a policy of them; blocks.

    :param files: where they are.
    :raise TlsError: if one of them cannot be used.
    """
    trusted = None if files.cafile is None else _certificates(files.cafile)
    options: dict[str, Any] = {}
    if files.certfile is not None:
        chain = _certificates(files.certfile)
        key = _private_key(files.keyfile or files.certfile, files.keyfile_password)
        if key.public_key() != chain[0].public_key():
            raise TlsError(
                f"{files.keyfile or files.certfile} holds the key of another"
                f" certificate than that in {files.certfile}"
            )
        options = {"certificate": chain[0], "extraCertChain": chain[1:], "privateKey": key}
    elif files.keyfile is not None:
        raise TlsError(f"{files.keyfile} is a key without a certificate")
    return TlsPolicy(trusted, options, files.insecure)


@implementer(IPolicyForHTTPS)
@define(eq=False)
class TlsPolicy:
    """Decides for each server how to begin a connection.

    A server's certificate must have the name, or the IP address, that is in the URL.

    :param trusted: the authorities; ``None`` for those of the system.
    :param options: what to show, as :class:`twisted.internet.ssl.CertificateOptions` takes it.
    :param insecure: trust every server.
    """

    _trusted: list[x509.Certificate] | None
    _options: dict[str, Any] = field(repr=False)
    _insecure: bool = False
    # A context takes milliseconds to make, with the system's authorities many.
    _creators: dict[str, IOpenSSLClientConnectionCreator] = field(
        factory=dict, init=False, repr=False
    )

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return what begins a TLS connection.

        :param hostname: the name or the address in the URL.
        :param port: the port in the URL.
        """
        name = hostname.decode("ascii")
        if name not in self._creators:
            if len(self._creators) >= REMEMBERED:
                self._creators.clear()
            self._creators[name] = self._creator(name)
        return self._creators[name]

    def _creator(self, name: str) -> IOpenSSLClientConnectionCreator:
        if self._insecure:
            context = CertificateOptions(verify=False, **self._options).getContext()
            return _Unverified(context, None if _is_address(name) else name.encode("ascii"))
        roots = (
            platformTrust()
            if self._trusted is None
            else trustRootFromCertificates(
                # pyOpenSSL's own objects, which Twisted wants, are made from the bytes.
                [Certificate.loadPEM(_pem(each)) for each in self._trusted]
            )
        )
        return optionsForClientTLS(
            name, trustRoot=roots, extraCertificateOptions=dict(self._options)
        )


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Unverified:
    """Begins connections to servers that may be anybody.

    :param context: does not verify.
    :param name: what to call the server, which may have several certificates.
    """

    context: SSL.Context
    name: bytes | None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return a connection.

        :param tlsProtocol: whose it is.
        """
        connection = SSL.Connection(self.context, None)
        if self.name is not None:
            connection.set_tlsext_host_name(self.name)
        return connection


def _is_address(name: str) -> bool:
    return isIPAddress(name) or isIPv6Address(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TlsError(f"cannot read {path}: {reason}") from error


def _certificates(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except TlsError:
        raise
    except ValueError as error:
        raise TlsError(f"{path} holds no certificate in PEM that can be read") from error


def _private_key(path: str, password: str | None) -> Any:
    content = _read(path)
    try:
        return load_pem_private_key(content, None if password is None else password.encode())
    except TypeError as error:
        if password is not None:  # the key is not encrypted
            return _private_key(path, None)
        raise TlsError(f"{path} is an encrypted key, and there is no password for it") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if password is not None and b"ENCRYPTED" in content:
            raise TlsError(f"the password for the key in {path} is wrong") from error
        raise TlsError(f"{path} holds no private key in PEM that can be used") from error
