"""Says beforehand which clients will fail because ``ctl`` and ``restapi`` do not fit together.

Members and ``patronictl`` take their side of TLS and their password from the ``ctl`` section, and
what they take for granted differs: members do not look at names, nor at the server's certificate
unless they have one of their own (they are "insecure" clients); ``patronictl`` looks at both. What
is said here supposes that the other members are configured as this one is, and that ``patronictl``
reads this file.
"""

from __future__ import annotations

import base64
import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import field, frozen
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)

from twisted_patroni.pem import PemFile, TlsError, matching_key, serves
from twisted_patroni.settings import VerifyClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cryptography import x509

    from twisted_patroni.settings import Network, Settings
    from twisted_patroni.tls import TlsMaterial


@frozen
class CtlFacts:
    """What the ``ctl`` section gives to clients.

    :param insecure: ``patronictl`` does not verify servers.
    :param auth: ``user:password``.
    :param certfile: the file of the client's certificate.
    :param chain: what it holds.
    :param cacert: the file of the authorities that servers' certificates must come from.
    :param authorities: what it holds.
    :param fault: what is wrong with these files, so that no request over TLS can even begin.
    """

    insecure: bool = False
    auth: str | None = field(default=None, repr=False)
    certfile: str | None = None
    chain: tuple[x509.Certificate, ...] = ()
    cacert: str | None = None
    authorities: tuple[x509.Certificate, ...] = ()
    fault: str = ""

    @classmethod
    def read(cls, section: Mapping[str, Any] | None) -> CtlFacts:
        """Read the files of a ``ctl`` section; blocks.

        :param section: as upstream's configuration loader gives it, ``authentication`` turned into
            ``auth``.
        """
        values = section or {}
        certfile, cacert = values.get("certfile"), values.get("cacert")
        chain: tuple[x509.Certificate, ...] = ()
        authorities: tuple[x509.Certificate, ...] = ()
        fault = ""
        try:
            if certfile:
                certificate = PemFile.read("ctl.certfile", certfile)
                keyfile = values.get("keyfile")
                key = PemFile.read("ctl.keyfile", keyfile) if keyfile else certificate
                chain = certificate.certificates()
                matching_key(certificate, chain[0], key, values.get("keyfile_password"))
            if cacert:
                authorities = PemFile.read("ctl.cacert", cacert).certificates()
        except TlsError as error:
            fault = str(error)
        return cls(
            insecure=bool(values.get("insecure")),
            auth=values.get("auth") or None,
            certfile=certfile or None,
            chain=chain,
            cacert=cacert or None,
            authorities=authorities,
            fault=fault,
        )


def misfits(settings: Settings, material: TlsMaterial | None, ctl: CtlFacts) -> list[str]:
    """Say which clients will fail, and why; one line each, none if all is well.

    :param settings: the ``restapi`` section.
    :param material: what its files hold, ``None`` for plain HTTP.
    :param ctl: the ``ctl`` section.
    """
    lines = list(_passwords(settings, ctl))
    if material is None:
        return lines
    if ctl.fault:
        return [f"{ctl.fault}: no request of members and patronictl succeeds", *lines]
    return [
        *_client_certificate(settings, material, ctl),
        *_server_certificate(settings, material, ctl),
        *lines,
    ]


def shut_out(
    settings: Settings,
    members: Mapping[str, Sequence[Network]],
    admitted: Iterable[Network] = (),
) -> list[str]:
    """Say which members the allowlist refuses; one line each, none if all is well.

    :param settings: the ``restapi`` section.
    :param members: the other members' addresses, by name; those without are not judged.
    :param admitted: the addresses of the host names in the allowlist.
    """
    if not settings.restricted:
        return []
    networks = (*settings.networks, *admitted)
    helpless = (
        ": restapi.allowlist_include_members does not count there"
        if settings.include_members
        else ""
    )
    return [
        f"restapi.allowlist shuts out member {name}"
        f" ({', '.join(str(each.network_address) for each in addresses)}):"
        f" its POST /failsafe is refused, so failsafe mode does not hold{helpless}"
        for name, addresses in sorted(members.items())
        if addresses
        and not any(each.network_address in network for each in addresses for network in networks)
    ]


def _passwords(settings: Settings, ctl: CtlFacts) -> Iterator[str]:
    if settings.credentials is None and not settings.users:
        return
    user = (ctl.auth or "").partition(":")[0]
    if ctl.auth is None:
        # Clients fall back to restapi.authentication, but write it in another encoding.
        if settings.credentials is None:
            yield (
                "ctl.authentication is not set, nor is restapi.authentication, but restapi.users"
                " is: all that changes something with patronictl is refused"
            )
        elif _basic(base64.b64decode(settings.credentials).decode()) != settings.credentials:
            yield (
                "restapi.authentication: members and patronictl send characters beyond ASCII in"
                " another encoding, so they are refused"
            )
    elif user not in settings.users and _basic(ctl.auth) != settings.credentials:
        yield (
            "ctl.authentication differs from restapi.authentication: POST /failsafe of members and"
            " all that changes something with patronictl are refused"
        )


def _basic(auth: str) -> bytes | None:
    try:
        return base64.b64encode(auth.encode("latin-1"))  # as upstream's HTTP client does
    except UnicodeEncodeError:
        return None


def _client_certificate(settings: Settings, material: TlsMaterial, ctl: CtlFacts) -> Iterator[str]:
    mode = settings.verify_client
    if mode is VerifyClient.NONE:
        return
    if not ctl.certfile:
        yield f"ctl.certfile is not set, but restapi.verify_client is {mode.value}: " + (
            "no request of members succeeds, those of a leader race included, nor does patronictl"
            if mode is VerifyClient.REQUIRED
            else "POST /failsafe of members and all that changes something with patronictl are"
            " refused"
        )
        return
    if problem := _problem(
        material.contexts[mode], ctl.chain, ExtendedKeyUsageOID.CLIENT_AUTH, "clients"
    ):
        yield (
            f"ctl.certfile: restapi.cafile does not let {ctl.certfile} in ({problem}): no request"
            " of members and patronictl succeeds"
        )


def _server_certificate(settings: Settings, material: TlsMaterial, ctl: CtlFacts) -> Iterator[str]:
    clients = [
        *(["members"] if ctl.certfile else []),
        *(["patronictl"] if ctl.certfile or not ctl.insecure else []),
    ]
    authorities = ctl.authorities or material.authorities
    whence = f"ctl.cacert ({ctl.cacert})" if ctl.cacert else "restapi.cafile"
    if not authorities:
        whence = "the system's authorities (neither ctl.cacert nor restapi.cafile is set)"
    context = _trusting(authorities)
    problem = _problem(context, material.chain, ExtendedKeyUsageOID.SERVER_AUTH, "servers")
    if clients and problem:
        yield (
            f"restapi.certfile: {' and '.join(clients)} cannot verify this node by {whence}"
            f" ({problem})"
        )
    host = urlsplit(settings.connection_string).hostname or ""
    if not ctl.insecure and not _names(material.chain[0], host):
        yield (
            f"restapi.certfile: the certificate has no name for {host}, the host of"
            " restapi.connect_address: patronictl refuses this node"
        )


def _trusting(authorities: Sequence[x509.Certificate]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if not authorities:
        context.set_default_verify_paths()
    store = context.get_cert_store()
    assert store is not None
    for each in authorities:
        store.add_cert(crypto.X509.from_cryptography(each))
    # How strict clients are depends on their Python; theirs will be ours.
    store.set_flags(int(ssl.create_default_context().verify_flags))
    return context


def _problem(
    context: SSL.Context,
    chain: Sequence[x509.Certificate],
    usage: x509.ObjectIdentifier,
    whom: str,
) -> str:
    store = context.get_cert_store()  # the context's own: it must not outlive it
    assert store is not None
    first, *others = (crypto.X509.from_cryptography(each) for each in chain)
    try:
        crypto.X509StoreContext(store, first, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return "" if serves(chain[0], usage) else f"its extended key usage is not for {whom}"


def _names(certificate: x509.Certificate, host: str) -> bool:
    try:
        ip_address(host)
        verify: Any = verify_certificate_ip_address
    except ValueError:
        verify = verify_certificate_hostname
    try:
        verify(certificate, host)
    except (VerificationError, CertificateError, ValueError):
        return False
    return True
