"""What the tests of twisted_patroni.postgres have in common.

Time is moved by hand, while the sockets are those of the real reactor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address as TCP4
from twisted.internet.address import IPv6Address as TCP6
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReadDescriptor,
    IResolutionReceiver,
    IWriteDescriptor,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.postgresql import shared_server
from twisted_patroni.postgres import (
    LinkReactor,
    PostgresError,
    PostgresLink,
    Rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress

reactor = cast("Any", global_reactor)
E = TypeVar("E", bound=PostgresError)

WHO = "SELECT pg_backend_pid()"
SLEEP = "SELECT pg_sleep(60)"


@implementer(IHostResolution)
class Resolution:
    """A resolution under way."""

    name = ""

    def cancel(self) -> None:
        """Refuse, as Twisted's own resolvers do."""
        raise NotImplementedError


@implementer(IHostnameResolver)
class FixedResolver:
    """Knows the names it is told, and can be slow.

    :param names: the addresses of each name.
    :param slow: keep the question in ``asked`` instead of answering it.
    """

    def __init__(self, names: Mapping[str, Sequence[str]], slow: bool = False) -> None:
        self.names = names
        self.slow = slow
        self.asked: list[IResolutionReceiver] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Answer at once, unless slow."""
        resolution = Resolution()
        resolutionReceiver.resolutionBegan(resolution)
        if self.slow:
            self.asked.append(resolutionReceiver)
            return resolution
        for address in self.names.get(hostName, ()):
            kind = TCP6 if ":" in address else TCP4
            resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(LinkReactor)
class ClockedReactor(Clock):
    """The sockets of the real reactor with a clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver: IHostnameResolver = reactor.nameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Use another resolver."""
        self.nameResolver, previous = resolver, self.nameResolver
        return previous

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch with the real reactor."""
        reactor.addReader(reader)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Watch with the real reactor."""
        reactor.addWriter(writer)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Stop watching with the real reactor."""
        reactor.removeReader(reader)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Stop watching with the real reactor."""
        reactor.removeWriter(writer)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """Leave what belongs to others alone."""
        return []

    def getReaders(self) -> list[IReadDescriptor]:
        """Return what the real reactor watches."""
        return cast("list[IReadDescriptor]", reactor.getReaders())

    def getWriters(self) -> list[IWriteDescriptor]:
        """Return what the real reactor watches."""
        return cast("list[IWriteDescriptor]", reactor.getWriters())


class LinkTestCase(TestCase):
    """Common ground of the tests that use a real server."""

    timeout = 30

    def setUp(self) -> None:
        """Have a server, and a clock that stands still."""
        self.server = shared_server()
        self.clock = ClockedReactor()
        self.losses: list[PostgresError] = []

    def link(self, clock: Any = None, **options: Any) -> PostgresLink:
        """Return a link to the server that is closed when the test ends."""
        return self.link_with(self.server.conninfo, clock=clock, **options)

    def link_with(
        self, conninfo: Callable[[], Mapping[str, Any]], clock: Any = None, **options: Any
    ) -> PostgresLink:
        """Return a link with parameters of its own that is closed when the test ends."""
        link = PostgresLink(clock or self.clock, conninfo, **options)
        self.addCleanup(link.close)
        return link

    def link_to(self, **parameters: Any) -> PostgresLink:
        """Return a link to the server with some parameters changed."""
        return self.link_with(lambda: self.server.conninfo(**parameters))

    async def sleeping(self, pid: int) -> None:
        """Wait until the server process is in pg_sleep, where a cancel request reaches it."""
        watcher = self.link()
        sql = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"
        while (await watcher.query(sql)).rows != [("PgSleep",)]:
            pass

    async def failing(self, answer: Deferred[Rows], kind: type[E]) -> E:
        """Return the error of a question that must not be answered."""
        try:
            result = await answer
        except kind as error:
            return error
        self.fail(f"answered: {result}")

    async def one(self, link: PostgresLink, sql: str) -> Any:
        """Return the one value of a statement."""
        ((value,),) = (await link.query(sql)).rows
        return value
