"""Clients that block, for what only they can see: handshakes, and whether anything was refused."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trustme
from attrs import define, field, frozen
from twisted.internet.threads import deferToThread

from tests.real.watching import REFUSED
from twisted_patroni.demo.layout import AUTHORITY, CLIENT, HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twisted_patroni.demo.layout import Keys

#: A request that changes nothing if it is let through, and needs no DCS.
HARMLESS = ("DELETE", "/restart")
#: What that is answered.
LET_IN, NO_PASSWORD, FORBIDDEN = 404, 401, 403
#: Instead of a status: the handshake, or what follows it, was refused, or the connection reset.
CUT = "cut"
_TIMEOUT = 30.0


@frozen
class Visit:
    """What a client saw.

    :param seen: the status; without one :data:`CUT` or :data:`REFUSED`.
    :param text: the body, or the error.
    :param headers: the answer's headers, by lower-case name.
    :param serial: the serial number of the server's certificate.
    :param cipher: what was spoken.
    """

    seen: int | str
    text: str = ""
    headers: Mapping[str, str] = field(factory=dict)
    serial: str = ""
    cipher: str = ""


@frozen
class Visitor:
    """A client, each visit of which has a connection of its own; blocks.

    :param port: the server's port.
    :param context: how to speak TLS; ``None`` for plain HTTP.
    :param login: user and password.
    :param source: the client's address.
    """

    port: int
    context: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    source: str = HOST

    def connect(self) -> http.client.HTTPConnection:
        """Return an open connection, which never is replaced by another one."""
        source = (self.source, 0)
        connection: http.client.HTTPConnection
        if self.context is None:
            connection = http.client.HTTPConnection(HOST, self.port, _TIMEOUT, source)
        else:
            connection = http.client.HTTPSConnection(
                HOST, self.port, timeout=_TIMEOUT, source_address=source, context=self.context
            )
        connection.connect()
        connection.auto_open = 0
        return connection

    def request(
        self, connection: http.client.HTTPConnection, method: str = "GET", path: str = "/liveness"
    ) -> Visit:
        """Ask on an open connection.

        :param connection: the connection.
        :param method: the method.
        :param path: the path.
        """
        connection.request(method, path, headers=self._headers())
        response = connection.getresponse()
        text = response.read().decode()
        headers = {name.lower(): value for name, value in response.getheaders()}
        visit = Visit(response.status, text, headers)
        if isinstance(connection.sock, ssl.SSLSocket):
            return _told(visit, connection.sock)
        return visit

    def _headers(self) -> dict[str, str]:
        if self.login is None:
            return {}
        credentials = base64.b64encode(":".join(self.login).encode()).decode("ascii")
        return {"Authorization": f"Basic {credentials}"}

    def ask(self, method: str = "GET", path: str = "/liveness") -> Visit:
        """Connect, ask and close.

        :param method: the method.
        :param path: the path.
        """
        connection = None
        try:
            connection = self.connect()
            return self.request(connection, method, path)
        except ConnectionRefusedError:
            return Visit(REFUSED)
        except (OSError, http.client.HTTPException) as error:
            return Visit(CUT, repr(error))
        finally:
            if connection is not None:
                connection.close()

    async def visit(self, method: str = "GET", path: str = "/liveness") -> Visit:
        """Do as :meth:`ask`, without blocking the reactor.

        :param method: the method.
        :param path: the path.
        """
        return await deferToThread(self.ask, method, path)

    def knock(self) -> str:
        """Connect and close, and return ``""`` or how that failed."""
        try:
            socket.create_connection((HOST, self.port), _TIMEOUT).close()
        except ConnectionRefusedError:
            return REFUSED
        except OSError as error:
            return repr(error)
        return ""


def _told(visit: Visit, connection: ssl.SSLSocket) -> Visit:
    certificate, cipher = connection.getpeercert(), connection.cipher()
    assert certificate is not None and cipher is not None
    serial = certificate["serialNumber"]
    assert isinstance(serial, str)
    return Visit(visit.seen, visit.text, visit.headers, serial, cipher[0])


def trusting(
    keys: Keys, shown: str | None = CLIENT, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Return how a client speaks TLS that trusts a cluster's authority.

    :param keys: the cluster's files.
    :param shown: whose certificate to show; ``None`` to show none.
    :param version: the latest version to speak.
    """
    context = ssl.create_default_context(cafile=keys.certificate(AUTHORITY))
    if shown is not None:
        context.load_cert_chain(keys.certificate(shown), keys.key(shown))
    if version is not None:
        context.maximum_version = version
    return context


@define(eq=False)
class Renewer:
    """Replaces the certificates of a cluster.

    :param keys: the cluster's files.
    """

    keys: Keys
    _authority: trustme.CA = field(init=False)

    def __attrs_post_init__(self) -> None:
        names = (self.keys.certificate(AUTHORITY), self.keys.key(AUTHORITY))
        self._authority = trustme.CA.from_pem(*(path.read_bytes() for path in names))

    def renew(self, name: str) -> None:
        """Give a server another certificate, of the same authority.

        :param name: the server's name.
        """
        leaf = self._authority.issue_cert(HOST, "localhost", common_name=name)
        # In place: whom the files belong to must not change.
        self.keys.key(name).write_bytes(leaf.private_key_pem.bytes())
        self.keys.certificate(name).write_bytes(leaf.cert_chain_pems[0].bytes())

    @contextmanager
    def damaged(self, name: str) -> Iterator[None]:
        """Have a certificate not fit its key while a block runs.

        :param name: the server's name.
        """
        file = self.keys.certificate(name)
        good = file.read_bytes()
        file.write_bytes(self.keys.certificate(CLIENT).read_bytes())
        try:
            yield
        finally:
            file.write_bytes(good)
