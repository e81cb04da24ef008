"""The TLS keys of the ``restapi`` section."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import field, frozen

from twisted_patroni.settings.reading import SettingsError

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Section

#: Those that mean something only with ``certfile``.
_FURTHER_KEYS = (
    "keyfile",
    "keyfile_password",
    "cafile",
    "crlfile",
    "ciphers",
    "verify_client",
    "certificate_watch",
)


class VerifyClient(enum.Enum):
    """What is asked of clients on a TLS connection (Patroni's documentation: ``verify_client``)."""

    #: No certificate is asked for.
    NONE = "none"
    #: One is asked for; the unsafe endpoints need it, a wrong one ends the handshake.
    OPTIONAL = "optional"
    #: The handshake needs one.
    REQUIRED = "required"


@frozen
class TlsSettings:
    """How the API is served over TLS.

    :param certfile: PEM file with the certificate, its chain, and maybe the key.
    :param keyfile: PEM file with the key; ``None`` if it is in ``certfile``.
    :param keyfile_password: decrypts the key.
    :param cafile: PEM file with the authorities that clients' certificates must come from;
        without it no
        certificate is good (the system's authorities would vouch for anybody).
    :param crlfile: PEM file with revocation lists of all these authorities, if they are to count.
    :param ciphers: OpenSSL's list of ciphers for TLS 1.2; ``None`` for Mozilla's intermediate.
    """

    certfile: str
    keyfile: str | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    crlfile: str | None = None
    ciphers: str | None = None


def read_tls(section: Section) -> TlsSettings | None:
    """Read how the API is served over TLS; ``None`` without ``certfile``: plain HTTP, as upstream.

    :param section: the ``restapi`` section.
    """
    certfile = section.text("certfile", "a path")
    if certfile is None:
        # What asks for nothing, as "verify_client: none", is in no need of a certificate.
        given = [key for key in _FURTHER_KEYS if section.has(key)]
        idle = [key for key in given if str(section.values[key]).lower() != "none"]
        if idle:
            section.warn("certfile", f"missing, so the API speaks no TLS, whatever {_list(idle)}")
        return None
    return TlsSettings(
        certfile=certfile,
        keyfile=section.text("keyfile", "a path"),
        keyfile_password=section.text("keyfile_password", "text (in quotes)", secret=True),
        cafile=section.text("cafile", "a path"),
        crlfile=section.text("crlfile", "a path"),
        ciphers=section.text("ciphers", "OpenSSL's list of ciphers"),
    )


def read_verify_client(section: Section) -> VerifyClient:
    """Read what is asked of clients; of an unknown word, upstream warns and asks nothing.

    :param section: the ``restapi`` section.
    """
    try:
        return section.choice("verify_client", VerifyClient, VerifyClient.NONE)
    except SettingsError as error:
        section.warnings.append(f"{error}: no client is asked for a certificate")
        return VerifyClient.NONE


def _list(keys: list[str]) -> str:
    *others, last = keys
    return f"{', '.join(others)} and {last} say" if others else f"{last} says"
