"""TLS for listeners: contexts from the ``restapi`` section's files, and what clients say of them.

What is read is checked before it is used, and used as it was read: a context never mixes the files
of before a renewal with those of after.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from attrs import astuple, field, frozen
from OpenSSL import SSL, crypto

from twisted_patroni.pem import (
    CertificateFacts,
    PemFile,
    PrivateKey,
    TlsError,
    alternative_names,
    matching_key,
    serial_text,
    subject_text,
)
from twisted_patroni.settings import TlsSettings, VerifyClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from cryptography import x509
    from twisted.python.failure import Failure

__all__ = [
    "CertificateFacts",
    "ClientCertificate",
    "TlsError",
    "TlsMaterial",
    "client_certificate",
    "digest",
    "handshake_failure",
    "load",
]

#: Mozilla's intermediate list for TLS 1.2, without the finite-field ones: they need parameters of
#: their own and every client that has them has these, too. Those of TLS 1.3 are OpenSSL's: all are
#: good.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
#: Seconds for which a client may take up its session again.
SESSION_LIFETIME = 300
#: How long before its end a certificate is worth a warning.
EXPIRES_SOON = timedelta(days=14)

_ALPN = b"http/1.1"
_VERIFY = {
    VerifyClient.NONE: SSL.VERIFY_NONE,
    VerifyClient.OPTIONAL: SSL.VERIFY_PEER,
    VerifyClient.REQUIRED: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
# Digests are compared within this process only, and must not help to guess the password.
_DIGEST_KEY = os.urandom(32)


@frozen
class TlsMaterial:
    """What the files held when they were read, ready for use.

    :param settings: the settings that named them.
    :param digest: differs when a setting or the content of a file does.
    :param contexts: a context for each mode that was asked for.
    :param certificate: the server's certificate.
    :param chain: that, and the certificates that lead to its authority.
    :param authorities: those that clients' certificates must come from.
    :param revocation_lists: what these have revoked.
    :param key_exposed: more accounts may read the key's file than need to.
    """

    settings: TlsSettings
    digest: str
    contexts: Mapping[VerifyClient, SSL.Context] = field(repr=False)
    certificate: CertificateFacts
    chain: tuple[x509.Certificate, ...]
    authorities: tuple[x509.Certificate, ...] = ()
    revocation_lists: tuple[x509.CertificateRevocationList, ...] = ()
    key_exposed: bool = False

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """Say what the operator should know; one line each.

        :param now: the present time.
        """
        lines = [
            *(_validity("certfile", each, now) for each in self.chain),
            *(_validity("cafile", each, now) for each in self.authorities),
            *(_currency(each, now) for each in self.revocation_lists),
            *self._unlisted(),
        ]
        if self.settings.cafile is None and set(self.contexts) - {VerifyClient.NONE}:
            lines.append(
                "restapi.cafile is not set: whatever certificate a client shows, it is refused"
            )
        if self.key_exposed:
            path = self.settings.keyfile or self.settings.certfile
            lines.append(f"the file of the private key, {path}, can be read by other accounts")
        return tuple(line for line in lines if line)

    def _unlisted(self) -> Iterator[str]:
        if not self.revocation_lists:
            return
        listed = {each.issuer for each in self.revocation_lists}
        for each in self.authorities:
            if each.subject not in listed:
                yield (
                    f"restapi.crlfile holds no list of {subject_text(each)}: clients with its"
                    " certificates are refused"
                )


def digest(settings: TlsSettings) -> str:
    """Tell what :attr:`TlsMaterial.digest` would be now; blocks.

    :param settings: the settings.
    :raise TlsError: if a file cannot be read.
    """
    return _Files.read(settings).digest(settings)


def load(settings: TlsSettings, verify: Iterable[VerifyClient]) -> TlsMaterial:
    """Read the files and make contexts of them; blocks.

    :param settings: the settings.
    :param verify: the modes that contexts are wanted for.
    :raise TlsError: if a file cannot be read or does not fit the others.
    """
    files = _Files.read(settings)
    chain = files.certificate.certificates()
    key = matching_key(files.certificate, chain[0], files.key, settings.keyfile_password)
    authorities = files.authorities.certificates() if files.authorities else ()
    lists = files.revoked.revocation_lists() if files.revoked else ()
    return TlsMaterial(
        settings=settings,
        digest=files.digest(settings),
        contexts={
            mode: _context(mode, settings, chain, key, authorities, lists) for mode in set(verify)
        },
        certificate=CertificateFacts.of(chain[0]),
        chain=chain,
        authorities=authorities,
        revocation_lists=lists,
        key_exposed=files.key.exposed,
    )


@frozen
class _Files:
    certificate: PemFile
    key: PemFile
    authorities: PemFile | None
    revoked: PemFile | None

    @classmethod
    def read(cls, settings: TlsSettings) -> _Files:
        def maybe(key: str, path: str | None) -> PemFile | None:
            return PemFile.read(key, path) if path else None

        certificate = PemFile.read("restapi.certfile", settings.certfile)
        return cls(
            certificate,
            maybe("restapi.keyfile", settings.keyfile) or certificate,
            maybe("restapi.cafile", settings.cafile),
            maybe("restapi.crlfile", settings.crlfile),
        )

    def digest(self, settings: TlsSettings) -> str:
        files = (self.certificate, self.key, self.authorities, self.revoked)
        sums = [each and hashlib.sha256(each.content).digest() for each in files]
        text = repr((astuple(settings), sums))
        return hmac.new(_DIGEST_KEY, text.encode(), hashlib.sha256).hexdigest()


@contextmanager
def _naming(key: str, path: str) -> Iterator[None]:
    try:
        yield
    except (SSL.Error, crypto.Error) as error:
        raise TlsError(f"{key}: OpenSSL refuses {path}: {_reasons(error)}") from error


def _reasons(error: Exception) -> str:
    entries = error.args[0] if error.args else ()
    return ", ".join(entry[-1] for entry in entries) if isinstance(entries, list) else str(error)


def _context(
    mode: VerifyClient,
    settings: TlsSettings,
    chain: tuple[x509.Certificate, ...],
    key: PrivateKey,
    authorities: tuple[x509.Certificate, ...],
    lists: tuple[x509.CertificateRevocationList, ...],
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # An idle connection keeps no buffers: half of what it would cost.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Groups stay OpenSSL's (X25519MLKEM768 where it has it, X25519, P-256, ...): pyOpenSSL can set
    # no list of them, only a single curve.
    _choose_ciphers(context, settings.ciphers)
    with _naming("restapi.certfile", settings.certfile):
        context.use_certificate(chain[0])
        for each in chain[1:]:
            context.add_extra_chain_cert(each)
        context.use_privatekey(key)
        context.check_privatekey()
    _trust(context, mode, settings, authorities, lists)
    context.set_verify(_VERIFY[mode])
    # Sessions belong to the context: with a new one everybody is verified anew.
    context.set_session_id(b"twisted_patroni")
    # Tickets let clients resume; a cache would grow with each client that knows none.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_timeout(SESSION_LIFETIME)
    # HTTP/2 is slower here and would need limits of its own.
    context.set_alpn_select_callback(
        lambda connection, offered: _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    return context


def _choose_ciphers(context: SSL.Context, ciphers: str | None) -> None:
    try:
        context.set_cipher_list((ciphers or CIPHERS).encode())
    except SSL.Error as error:
        raise TlsError(f"restapi.ciphers: OpenSSL knows none of {ciphers!r}") from error
    if ciphers:
        # Somebody has thought about their order. In Mozilla's list all are good, and a client knows
        # best which it can do in hardware.
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)


def _trust(
    context: SSL.Context,
    mode: VerifyClient,
    settings: TlsSettings,
    authorities: tuple[x509.Certificate, ...],
    lists: tuple[x509.CertificateRevocationList, ...],
) -> None:
    store = context.get_cert_store()
    assert store is not None
    # Without cafile nobody is trusted, as upstream (whose system's store stays empty for clients):
    # a certificate that anybody can buy must not let into a cluster.
    # Those of cafile are known in each mode: OpenSSL completes our own chain from them.
    with _naming("restapi.cafile", str(settings.cafile)):
        for each in authorities:
            store.add_cert(crypto.X509.from_cryptography(each))
            if mode is not VerifyClient.NONE:
                context.add_client_ca(each)
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN  # an intermediate in cafile needs no root there
    if lists:
        # As PostgreSQL's ssl_crl_file. OpenSSL cannot check where a chain ends early.
        flags = crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
    store.set_flags(flags)
    with _naming("restapi.crlfile", str(settings.crlfile)):
        for revoked in lists:
            store.add_crl(revoked)


def _validity(key: str, certificate: x509.Certificate, now: datetime) -> str:
    whose = f"restapi.{key}: the certificate of {subject_text(certificate)}"
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        return f"{whose} has EXPIRED at {end}: who verifies it refuses it"
    if now < start:
        return f"{whose} is NOT YET VALID before {start}: who verifies it refuses it"
    if end - now <= EXPIRES_SOON:
        return f"{whose} expires soon, at {end}"
    return ""


def _currency(revoked: x509.CertificateRevocationList, now: datetime) -> str:
    whose = f"restapi.crlfile: the list of {revoked.issuer.rfc4514_string()}"
    end = revoked.next_update_utc
    if end is not None and end <= now:
        return f"{whose} is OUTDATED since {end}: clients with its certificates are refused"
    if now < revoked.last_update_utc:
        return (
            f"{whose} is NOT YET VALID before {revoked.last_update_utc}: clients with its"
            " certificates are refused"
        )
    return ""


@frozen
class ClientCertificate:
    """What a client's certificate, verified in the handshake, says of the client.

    :param subject: whose it is (RFC 4514), as ``CN=backup,O=dba``.
    :param names: its alternative names, as ``DNS:a.example.com``, ``IP:10.0.0.7``,
        ``email:a@example.com``, ``URI:spiffe://x/y``.
    :param serial: its serial number, hexadecimal.
    """

    subject: str
    names: tuple[str, ...] = ()
    serial: str = ""


def client_certificate(transport: object) -> ClientCertificate | None:
    """Return the certificate of the client, ``None`` if it gave none.

    Ask early: it is gone with the connection.

    :param transport: a protocol's transport, over TLS or not.
    """
    try:
        connection = transport.getHandle()  # type: ignore[attr-defined]
    except AttributeError:  # plain transports that have gone, and those of tests
        return None
    if not isinstance(connection, SSL.Connection):
        return None
    found = connection.get_peer_certificate()
    if found is None:
        return None
    try:
        certificate = found.to_cryptography()
    except Exception:  # OpenSSL is content with more than cryptography is, and has verified it
        return ClientCertificate("", (), serial_text(found.get_serial_number()))
    return ClientCertificate(
        subject_text(certificate),
        alternative_names(certificate),
        serial_text(certificate.serial_number),
    )


# What OpenSSL says when a handshake fails; the first that fits counts.
_FAILURES = (
    ("alert", "rejected_by_client"),
    ("http request", "plain_http"),
    ("https proxy request", "plain_http"),
    ("peer did not return a certificate", "no_certificate"),
    ("certificate verify failed", "bad_certificate"),
    ("wrong version number", "not_tls"),  # of the record: an old client's would be understood
    ("unsupported protocol", "protocol_version"),
    ("version", "protocol_version"),
    ("inappropriate fallback", "protocol_version"),
    ("no shared", "no_shared_cipher"),
    ("no suitable", "no_shared_cipher"),
    ("no cipher", "no_shared_cipher"),
    ("unexpected eof", "closed"),
    ("excess", "excess"),  # a message that is too long, or too many of them
)


def handshake_failure(reason: Failure) -> str:
    """Return a label, one of a few, for why a connection ended before its handshake did.

    :param reason: that of ``connectionLost``.
    """
    if not isinstance(reason.value, SSL.Error) or not reason.value.args:
        return "closed"
    said = _reasons(reason.value)
    return next((label for text, label in _FAILURES if text in said), "other")
