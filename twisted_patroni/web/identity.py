"""Where a connection has come from, and who its client has proved to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web.http import HTTPChannel

from twisted_patroni.tls import client_certificate
from twisted_patroni.web.wire import plain_host

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from twisted_patroni.tls import ClientCertificate
    from twisted_patroni.web.entrance import Door
    from twisted_patroni.web.site import ApiSite


class IdentifiedChannel(HTTPChannel):
    """A connection with a known origin.

    :ivar door: the way it came, with the rules that count for it.
    :ivar came_from: the client's address at the accept; empty for a Unix socket and behind a proxy.
    :ivar trusted: it comes from this machine or from a member of the cluster.
    """

    site: ApiSite
    # Whatever carries us: TCP, Unix, TLS or a proxy's wrapper; no one interface names all it has.
    transport: Any
    door: Door
    came_from = ""
    trusted = False
    _host: IAddress | None = None
    _peer: IAddress | None = None
    _client_host: str | None = None
    _certificate: ClientCertificate | None = None
    _certificate_known = False

    def arrive(self, door: Door, host: str) -> None:
        """Take note of the way the connection has come.

        :param door: the listener's rules.
        :param host: the address at its other end, empty for a Unix socket.
        """
        self.door = door
        if door.proxies is None:
            self.came_from = host
            self.trusted = self.site.connections.trusts(host)

    # Asking the kernel for each request would cost more than parsing it.

    def getHost(self) -> IAddress:
        """Return our address, asked for once per connection."""
        if self._host is None:
            self._host = self.transport.getHost()
        return self._host

    def getPeer(self) -> IAddress:
        """Return the client's address, asked for once, when its first bytes are there.

        Not earlier, because a proxy tells it in its first line.
        """
        if self._peer is None:
            self._peer = self.transport.getPeer()
        return self._peer

    @property
    def client_host(self) -> str:
        """The client's address as text, IPv4 as IPv4; empty for a Unix socket."""
        if self._client_host is None:
            self._client_host = plain_host(getattr(self.getPeer(), "host", ""))
        return self._client_host

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """The certificate that the client has proved to be its own, if any."""
        if not self._certificate_known:
            self._certificate_known = True
            if self.isSecure():
                self._certificate = client_certificate(self.transport)
        return self._certificate
