"""The TLS keys of the ``restapi`` section."""

from __future__ import annotations

import enum

from attrs import field, frozen


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
        ``None`` for the system's.
    :param crlfile: PEM file with revocation lists of all these authorities, if they are to count.
    :param ciphers: OpenSSL's list of ciphers for TLS 1.2; ``None`` for Mozilla's intermediate.
    """

    certfile: str
    keyfile: str | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    crlfile: str | None = None
    ciphers: str | None = None
