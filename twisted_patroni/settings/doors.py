"""Further listeners: ``restapi.endpoints``, a list of Twisted endpoint strings with their rules."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Network
    from twisted_patroni.settings.tls import VerifyClient


class Serves(enum.IntEnum):
    """What a listener answers; each includes those before it."""

    #: Health checks.
    HEALTH = 1
    #: Everything that changes nothing.
    READ = 2
    #: Everything.
    ALL = 3


@frozen
class DoorSettings:
    """One further listener.

    :param endpoint: Twisted's server endpoint string, as ``tcp:8009:interface=127.0.0.1``.
    :param serves: what it answers.
    :param tls: clients speak TLS, with the certificate of the ``restapi`` section.
    :param verify_client: what is asked of its clients.
    :param proxies: the networks of those who may tell a client's address in PROXY protocol's header;
        ``None`` if the endpoint does not speak it.
    """

    endpoint: str
    serves: Serves
    tls: bool
    verify_client: VerifyClient
    proxies: tuple[Network, ...] | None = None
