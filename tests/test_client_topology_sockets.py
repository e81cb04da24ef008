"""A cluster is known by what its nodes tell over real sockets, and nothing is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from tests.certificates import Authority
from tests.event_nodes import EventNode, member, view
from tests.scratch import black_hole, free_port, scratch_directory
from tests.topologycase import status
from twisted_patroni.client.errors import Unreachable
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.reaching import agent_of
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import TlsFiles
from twisted_patroni.client.topology import Topology

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory

reactor: Any = global_reactor
HOST = "127.0.0.1"
#: Seconds after which something counts as never.
NEVER = 20.0


class SocketTests(TestCase):
    """Nodes on the loopback interface."""

    scheme = "http"
    files = TlsFiles()

    def setUp(self) -> None:
        """Have two members with events, of which ``a`` leads."""
        self.ports: list[IListeningPort] = []
        self.nodes = {name: EventNode() for name in "ab"}
        self.urls = {name: self.listen(node) for name, node in self.nodes.items()}
        members = [
            member(name, "leader" if name == "a" else "replica", api_url=f"{url}/patroni")
            for name, url in self.urls.items()
        ]
        for name, node in self.nodes.items():
            node.greeting = view(*members)
            node.status = status(name, "primary" if name == "a" else "replica")

    def site(self, node: EventNode) -> IProtocolFactory:
        """Return what serves a node."""
        return Site(node)

    def listen(self, node: EventNode) -> str:
        """Have a node on a port, until the test has ended, and return its URL."""
        port: Any = reactor.listenTCP(0, self.site(node), interface=HOST)
        self.ports.append(port)
        self.addCleanup(self.kill, len(self.ports) - 1, node)
        return f"{self.scheme}://{HOST}:{port.getHost().port}"

    async def kill(self, number: int, node: EventNode) -> None:
        """End a node as a crash does."""
        await maybeDeferred(self.ports[number].stopListening)
        node.cut()

    def topology(self, *seeds: str, **settings: Any) -> Topology:
        """Begin to find out."""
        made = ClientSettings(tls=self.files, **settings)
        topology = Topology(reactor, seeds, made, agent_of(reactor, made), lambda: 0.5)
        self.addCleanup(topology.close)
        topology.start()
        return topology

    async def led_by(self, topology: Topology, name: str) -> None:
        """Wait until a member leads."""

        def look() -> bool:
            return topology.leader is not None and topology.leader.name == name

        await topology.until(look, NEVER)

    async def test_seeds(self) -> None:
        """One good seed will do, whatever is the matter with the others."""
        hole = f"{self.scheme}://{HOST}:{black_hole(self)}"
        closed = f"{self.scheme}://{HOST}:{free_port()}"
        strange = f"{self.scheme}://no-such-host.invalid:8008"
        seeds = (hole, closed, strange, self.urls["b"])
        topology = self.topology(*seeds, connect_timeout=0.5)
        began = reactor.seconds()
        await self.led_by(topology, "a")
        self.assertLess(reactor.seconds() - began, 20.0)
        self.assertEqual([each.name for each in topology.members], ["a", "b"])
        while len(topology.failures) < 3:
            await deferLater(reactor, 0.01)
        self.assertEqual(set(topology.failures), {hole, closed, strange})
        for error in topology.failures.values():
            self.assertIsInstance(error, Unreachable)

    async def test_leader_is_killed(self) -> None:
        """When the leader that tells is killed the other one tells that it leads."""
        topology = self.topology(self.urls["a"])
        await self.led_by(topology, "a")
        await self.kill(0, self.nodes["a"])
        while not self.nodes["b"].open:
            await deferLater(reactor, 0.01)
        self.nodes["b"].say("leader", {"old": "a", "new": "b", "timeline": 4})
        await self.led_by(topology, "b")
        while self.urls["a"] not in topology.failures:
            await deferLater(reactor, 0.01)
        self.assertIsInstance(topology.failures[self.urls["a"]], Unreachable)

    async def test_two_leaders(self) -> None:
        """Of two that claim to lead the one with the newer timeline does."""
        self.nodes["b"].status = status("b", "primary", 4)
        topology = self.topology(*self.urls.values())
        await self.led_by(topology, "b")
        self.assertEqual([each.name for each in topology.conflict], ["b", "a"])

    async def test_no_events(self) -> None:
        """Nodes of upstream's daemon are asked again and again."""
        for node in self.nodes.values():
            node.plain = True
            node.cluster = {"scope": "demo", "members": [member("a", "leader"), member("b")]}
        topology = self.topology(*self.urls.values())
        await self.led_by(topology, "a")
        for node in self.nodes.values():
            node.cluster = {"scope": "demo", "members": [member("a"), member("b", "leader")]}
        topology.doubt()
        await self.led_by(topology, "b")

    async def test_closed_at_any_time(self) -> None:
        """It can be closed at once, and while somebody waits, and leaves nothing behind."""
        self.nodes["b"].silent = True
        for _ in range(2):
            topology = self.topology(*self.urls.values())
            waiting: Deferred[None] = Deferred.fromCoroutine(topology.until(lambda: None, NEVER))
            await topology.close()
            await self.assertFailure(waiting, PoolClosed)
        topology = self.topology(self.urls["a"])
        await self.led_by(topology, "a")
        await topology.close()
        for node in self.nodes.values():
            while node.open:
                await deferLater(reactor, 0.01)


class TlsTests(SocketTests):
    """The same, with TLS."""

    scheme = "https"

    def setUp(self) -> None:
        """Have an authority, and a certificate for all nodes."""
        authority = Authority()
        self.files = TlsFiles(cafile=authority.write(scratch_directory(self)))
        self.certificate = authority.server(HOST)
        super().setUp()

    def site(self, node: EventNode) -> IProtocolFactory:
        """Return what serves a node."""
        issued = self.certificate
        own: dict[str, Any] = {"privateKey": issued.key, "certificate": issued.certificate}
        context = CertificateOptions(**own)
        return TLSMemoryBIOFactory(context, False, Site(node))
