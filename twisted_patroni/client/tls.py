"""How a client speaks TLS: whom it trusts, what it shows, and when it does not look."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

#: Servers whose contexts are kept.
REMEMBERED = 100


# OpenSSL's numbers for chains that lead to nobody who is known.
_STRANGERS = frozenset({2, 18, 19, 20, 21, 27})
_UNTRUSTED = {
    9: "is not valid yet",
    10: "has expired",
    23: "is revoked",
    24: "is that of no authority",
    26: "is not made for servers",
    66: "has a key that is too short",
    67: "has an authority whose key is too short",
    68: "is signed with an algorithm that is not safe",
}
#: How the other side says that it does not take our certificate, or misses it.
_CLIENT_ALERTS = {
    "certificate required": "wants a client certificate",
    "handshake failure": "refuses the handshake: perhaps it wants a client certificate",
    "unknown ca": "does not accept the client certificate: it does not know its authority",
    "certificate expired": "does not accept the client certificate: it has expired",
    "certificate revoked": "does not accept the client certificate: it is revoked",
    "bad certificate": "does not accept the client certificate, or misses it",
    "certificate unknown": "does not accept the client certificate",
    "unsupported certificate": "does not accept the client certificate: it is of no use there",
    "access denied": "does not accept the client certificate",
}
_ALERT = re.compile(r"(?:tlsv1|tlsv13|sslv3|ssl/tls|tls) alert (.*)")
_NO_TLS = frozenset({"wrong version number", "packet length too long", "http request"})
_OLD = frozenset({"unsupported protocol", "protocol version", "inappropriate fallback"})


class TlsError(ValueError):
    """A file is missing or wrong, or does not fit another; one line that names it.

    >>> ClientSettings(tls=TlsFiles(cafile="missing.pem")).policy
    Traceback (most recent call last):
    twisted_patroni.client.tls.TlsError: cannot read missing.pem: No such file or directory
    """


@frozen
class TlsFiles:
    """Where everything is that TLS needs.

    :param cafile: authorities to trust; ``None`` for those of the system.
    :param certfile: the certificate to show, with what leads to its authority.
    :param keyfile: its key; ``None`` if that is in the same file.
    :param keyfile_password: decrypts the key.
    :param insecure: trust every server, whatever its certificate.

    >>> files = TlsFiles(cafile="ca.pem", certfile="client.pem", keyfile="client.key")
    >>> ClientSettings(tls=files).tls.insecure
    False
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


def _texts(error: BaseException) -> list[str]:
    entries = error.args[0] if isinstance(error, SSL.Error) and error.args else ()
    return [str(each[-1]) for each in entries] if isinstance(entries, list) else []


def _alerts(error: BaseException) -> list[str]:
    found = map(_ALERT.fullmatch, _texts(error))
    return [each[1] for each in found if each is not None]


def is_alert(error: BaseException) -> bool:
    """Tell whether an error is what the other side has said, in TLS.

    :param error: the error.
    """
    return bool(_alerts(error))


def is_unread(error: BaseException | None) -> bool:
    """Tell whether an error of TLS means that nothing that was sent has been read.

    With TLS 1.3 a client hears only after the handshake that its certificate is not accepted; all
    that it has sent by then is thrown away.

    :param error: the error.
    """
    if isinstance(error, HandshakeFailed | Untrusted | VerificationError | CertificateError):
        return True
    if not isinstance(error, SSL.Error):
        return False
    said = {*_texts(error), *_alerts(error)}
    return not said.isdisjoint(_NO_TLS | _OLD | _CLIENT_ALERTS.keys())


def tls_reason(error: BaseException | None) -> str | None:
    """Say in half a sentence why TLS has failed.

    :param error: with what; ``None`` is returned if that is none of TLS.
    """
    if isinstance(error, Untrusted | HandshakeFailed):
        return str(error)
    if isinstance(error, VerificationError):
        wanted = getattr(error.errors[0], "mismatched_id", None) if error.errors else None
        if isinstance(wanted, IPAddress_ID):
            return f"has a certificate for another IP address than {wanted.ip}"
        name = wanted.hostname.decode("ascii") if isinstance(wanted, DNS_ID) else None
        return f"has a certificate for another name{f' than {name}' if name else ''}"
    if isinstance(error, CertificateError):
        return "has a certificate that cannot be understood"
    if not isinstance(error, SSL.Error):
        return None
    texts, alerts = _texts(error), _alerts(error)
    for each in alerts:
        if each in _CLIENT_ALERTS:
            return _CLIENT_ALERTS[each]
    if _NO_TLS.intersection(texts):
        return "does not speak TLS at this port"
    if _OLD.intersection([*texts, *alerts]):
        return "speaks no version of TLS that is accepted"
    return f"fails at TLS: {', '.join(texts) or 'the connection was closed'}"


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
        creator = optionsForClientTLS(
            name, trustRoot=roots, extraCertificateOptions=dict(self._options)
        )
        return _Verified(creator, IPAddress_ID(name) if _is_address(name) else DNS_ID(name))


class HandshakeFailed(Exception):
    """There is TCP, and no TLS; the text says why, in half a sentence.

    :ivar speaks_tls: the other side has at least answered in TLS.
    """

    speaks_tls = False


class Untrusted(Exception):
    """A server's certificate is not to be trusted.

    :param number: OpenSSL's number for the reason.
    :param depth: 0 for the server's own, more for one of an authority's.
    """

    def __init__(self, number: int, depth: int) -> None:
        super().__init__(number, depth)
        self.number, self.depth = number, depth

    def __str__(self) -> str:
        whose = "a certificate" if self.depth == 0 else "an authority's certificate"
        if self.number in _STRANGERS:
            return "has a certificate of an authority that is not trusted"
        return f"has {whose} that {_UNTRUSTED.get(self.number, f'fails: {self.number}')}"


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Verified:
    """Begins connections to servers that have to prove who they are.

    Twisted's own verification is replaced by one that tells what it has found.

    :param creator: begins them.
    :param service: the name or the address that the certificate must have.
    """

    creator: IOpenSSLClientConnectionCreator
    service: DNS_ID | IPAddress_ID

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return a connection.

        :param tlsProtocol: whose it is.
        """
        service = self.service

        def verify(_: SSL.Connection, found: Any, number: int, depth: int, ok: int) -> bool:
            try:
                if not ok:
                    raise Untrusted(number, depth)
                if depth == 0:
                    verify_service_identity(extract_patterns(found), [service], [])
            except Exception as error:  # none gets through OpenSSL, and each is a no
                tlsProtocol.failVerification(Failure(error))
                return False
            return True

        connection = self.creator.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


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
