"""A real cluster on etcd: the same life, and writes that lose a race."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import connectionDone
from twisted.protocols.portforward import ProxyFactory, ProxyServer

from tests.real.asking import eventually, sql
from tests.real.faults import Etcd
from tests.real.harness import ClusterTestCase, api_of, destroy, new_cluster, node_file

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.python.failure import Failure


@define(eq=False)
class Gate:
    """Keeps one request on its way to etcd back, until it is told to let it through.

    :param mark: what the request contains.
    """

    mark: bytes
    arrived: Deferred[None] = field(factory=Deferred, init=False)
    _kept: tuple[ProxyServer, bytes] | None = field(default=None, init=False)

    def keeps(self, connection: ProxyServer, data: bytes) -> bool:
        """Take what a connection has received if it is what to wait for.

        :param connection: the connection.
        :param data: what it has received.
        """
        if self.mark not in data or self.arrived.called:
            return False
        self._kept = connection, data
        self.arrived.callback(None)
        return True

    def open(self) -> None:
        """Let the request through."""
        assert self._kept is not None
        connection, data = self._kept
        ProxyServer.dataReceived(connection, data)


class GatedServer(ProxyServer):
    """A connection to etcd through the gate of its factory, if there is one at present."""

    factory: GatedEtcd

    def connectionMade(self) -> None:
        """Count it."""
        self.factory.connections += 1
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count it no more."""
        self.factory.connections -= 1
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came, or have it kept back."""
        gate = self.factory.gate
        if gate is None or not gate.keeps(self, data):
            super().dataReceived(data)


class GatedEtcd(ProxyFactory):
    """A way to etcd on which a gate can be put."""

    protocol = GatedServer
    gate: Gate | None = None
    connections = 0

    async def idle(self) -> bool:
        """Tell whether nobody is connected."""
        return not self.connections


class EtcdTests(ClusterTestCase):
    """A cluster of its own, each of whose requests to etcd passes a proxy of the test."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Start etcd, the proxy and the cluster."""
        etcd = Etcd()
        self.addCleanup(etcd.stop)
        self.proxy = GatedEtcd("127.0.0.1", etcd.port)
        port: IListeningPort = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(
            self.proxy
        )
        self.addCleanup(port.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.proxied_nothing()))
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        # Else the nodes would ask etcd for its address, and pass the proxy by.
        hosts = {"hosts": f"127.0.0.1:{address.port}", "use_proxies": True}
        self.cluster = new_cluster(dcs={"etcd3": hosts})
        self.addCleanup(destroy, self.cluster)
        await self.cluster.start()
        self.api = api_of(self.cluster)

    async def proxied_nothing(self) -> None:
        """Wait until all connections are closed, which trial wants of a test that is over."""
        await eventually("no node is connected to etcd", self.proxy.idle)

    async def test_life(self) -> None:
        """Nodes say how their start goes, checks are as with any DCS, a lost race gives 409."""
        await self.start()
        leader, (replica, other) = await self.roles()
        checks = ("/primary", "/replica", "/readiness", "/liveness")
        self.assertEqual([*(await self.codes(leader, *checks)).values()], [200, 503, 200, 200])
        self.assertEqual([*(await self.codes(replica, *checks)).values()], [503, 200, 200, 200])
        await self.lose_a_race()
        body = {"leader": leader.name, "candidate": replica.name}
        text = f'Successfully switched over to "{replica.name}"'
        await self.answers("POST", other, "/switchover", body, 200, text)
        await self.cluster.ready()
        self.assertEqual(await sql(replica.conninfo, "SELECT pg_is_in_recovery()"), [(False,)])

    async def start(self) -> None:
        """Wait until the nodes run; all the time what they say must fit together."""
        states: set[str] = set()

        async def running() -> bool:
            healthy = []
            for node in self.cluster.nodes:
                reply = await self.ask("GET", node, "/health")
                healthy += [node] if reply.code == 200 else []
                if reply.code:
                    document = reply.json()
                    self.assertEqual(document["patroni"]["name"], node.name)
                    self.assertEqual(reply.code == 200, document["state"] == "running", reply.text)
                    states.add(document["state"])
            return len(healthy) == len(self.cluster.nodes)

        await eventually("all nodes run", running, 60.0)
        self.assertLess({"running"}, states)
        await self.cluster.ready()

    async def lose_a_race(self) -> None:
        """Have one PATCH read the configuration, another write it, and then the first write it."""
        slow, fast, other = self.cluster.nodes
        file = node_file(slow)
        key = f"{file['namespace'].rstrip('/')}/{file['scope']}/config"
        gate = self.proxy.gate = Gate(base64.b64encode(key.encode()))
        losing = Deferred.fromCoroutine(self.ask("PATCH", slow, "/config", {"note": "slow"}))
        await gate.arrived.addTimeout(30.0, reactor)
        self.assertEqual((await self.ask("PATCH", fast, "/config", {"note": "fast"})).code, 200)
        gate.open()
        reply = await losing
        self.assertEqual(reply.code, 409, reply.text)

        async def won() -> bool:
            return bool((await self.get(other, "/config")).get("note") == "fast")

        await eventually("the first writer has won", won)
        reply = await self.ask("PATCH", slow, "/config", {"note": None})
        self.assertEqual((reply.code, "note" in reply.json()), (200, False))
