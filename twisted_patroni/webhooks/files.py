"""How receivers are reached: addresses and TLS. All of it blocks, and none runs on the reactor."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory

from twisted_patroni.pem import PemFile, TlsError, matching_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

    from twisted_patroni.settings import WebhookSettings

#: Addresses of one name that are tried.
_MOST_ADDRESSES = 4


@frozen
class Way:
    """How to reach a receiver at this moment.

    :param addresses: its addresses, those to be preferred first; true with each that is IPv6's.
    :param creator: begins TLS with it; ``None`` for plain HTTP.
    """

    addresses: tuple[tuple[bool, str], ...]
    creator: IOpenSSLClientConnectionCreator | None = None


def find_way(settings: WebhookSettings) -> Way:
    """Resolve the name and read the files; blocks.

    They are read for each connection, so renewed ones are noticed.

    :param settings: the receiver.
    :raise OSError: if the name cannot be resolved.
    :raise TlsError: if a file cannot be used.
    """
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(
        (family == socket.AF_INET6, str(address[0]))
        for family, _, _, _, address in found
        if family in (socket.AF_INET, socket.AF_INET6)
    )
    creator = connection_creator(settings) if settings.tls else None
    return Way(tuple(addresses)[:_MOST_ADDRESSES], creator)


def check(webhooks: Iterable[WebhookSettings]) -> None:
    """Make sure that the files can be used; blocks.

    :param webhooks: the receivers.
    :raise TlsError: if one cannot.
    """
    for each in webhooks:
        if each.cafile is not None or each.certfile is not None:
            connection_creator(each)


def connection_creator(settings: WebhookSettings) -> IOpenSSLClientConnectionCreator:
    """Return what begins TLS with a receiver, and needs no more files for it; blocks.

    The receiver's certificate must have the name, or the address, that is in the URL.

    :param settings: the receiver.
    :raise TlsError: if a file cannot be used.
    """
    creator = optionsForClientTLS(
        settings.host, trustRoot=_trusted(settings), extraCertificateOptions=_shown(settings)
    )
    # Twisted makes the context, and reads the system's authorities, at the first connection.
    nobody = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(Protocol)).buildProtocol(None)
    assert nobody is not None
    try:
        context = creator.clientConnectionForTLS(nobody).get_context()
    except (SSL.Error, crypto.Error) as error:
        entries = error.args[0] if error.args else ()
        reasons = ", ".join(str(each[-1]) for each in entries)
        raise TlsError(f"{settings.key}: OpenSSL refuses the files: {reasons}") from error
    store = context.get_cert_store()
    if settings.cafile is not None and store is not None:
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # as with restapi.cafile
    return creator


def _trusted(settings: WebhookSettings) -> Any:
    if settings.cafile is None:
        return platformTrust()
    found = PemFile.read(f"{settings.key}.cafile", settings.cafile).certificates()
    # pyOpenSSL's own objects, which Twisted wants, are made from the bytes.
    return trustRootFromCertificates(
        [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in found]
    )


def _shown(settings: WebhookSettings) -> dict[str, Any]:
    if settings.certfile is None:
        return {}
    certfile = PemFile.read(f"{settings.key}.certfile", settings.certfile)
    keyfile = certfile
    if settings.keyfile is not None:
        keyfile = PemFile.read(f"{settings.key}.keyfile", settings.keyfile)
    certificate, *chain = certfile.certificates()
    key = matching_key(certfile, certificate, keyfile, settings.keyfile_password)
    return {"certificate": certificate, "privateKey": key, "extraCertChain": chain}
