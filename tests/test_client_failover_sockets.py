"""Tests of the client of a cluster on real sockets, with a leader that dies while it is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.scratch import black_hole
from twisted_patroni.client.errors import ClusterUnknown, OutcomeUnknown
from twisted_patroni.client.replicas import Replicas
from twisted_patroni.client.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IListeningPort
    from twisted.web.server import Request

reactor: Any = global_reactor
HOST = "127.0.0.1"


@define(eq=False)
class Server(Resource):
    """A member of a cluster, as upstream's daemon answers: without events.

    :param name: its name.
    :param cluster: returns the document of ``GET /cluster``.
    :ivar asked: what it was asked for.
    :ivar held: the requests that it has not answered.
    :ivar holds: the paths that it does not answer at once.
    :ivar refusals: changes that it refuses for now.
    :ivar claims: if set, it believes that it leads, on this timeline.
    :ivar page: if set, status and body of whatever is asked for, as of a proxy before it.
    """

    name: str
    cluster: Callable[[], dict[str, Any]]
    asked: list[tuple[str, str]] = field(factory=list, init=False)
    held: list[Request] = field(factory=list, init=False)
    holds: set[str] = field(factory=set, init=False)
    refusals: int = field(default=0, init=False)
    claims: int | None = field(default=None, init=False)
    page: tuple[int, bytes] | None = field(default=None, init=False)
    factory: WrappingFactory = field(init=False)
    port: IListeningPort | None = field(init=False)
    url: str = field(init=False)
    isLeaf = True

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)
        self.factory = WrappingFactory(Site(self))
        port = self.port = reactor.listenTCP(0, self.factory, interface=HOST)
        self.url = f"http://{HOST}:{port.getHost().port}"

    @property
    def connections(self) -> tuple[ProtocolWrapper, ...]:
        """Those that are open."""
        return tuple(self.factory.protocols)

    def render(self, request: Request) -> bytes | int:
        """Answer."""
        path = request.path.decode()
        self.asked.append((request.method.decode(), path))
        if path in self.holds:
            self.held.append(request)
            request.notifyFinish().addErrback(lambda _: None)
            return NOT_DONE_YET
        return self.answer(request)

    def answer(self, request: Request) -> bytes:
        """Return what is answered."""
        request.setHeader("Content-Type", "application/json")
        path = request.path.decode()
        if self.page is not None:
            request.setResponseCode(self.page[0])
            return self.page[1]
        if path == "/cluster":
            return json.dumps(self.cluster()).encode()
        if path == "/patroni":
            found = self.cluster()["members"]
            leads = next(each["role"] == "leader" for each in found if each["name"] == self.name)
            role = "primary" if leads else "replica"
            timeline = 1
            if self.claims is not None:
                role, timeline = "primary", self.claims
            status = {"state": "running", "role": role, "patroni": {"name": self.name}}
            return json.dumps({**status, "timeline": timeline}).encode()
        if request.method == b"PATCH" and self.refusals:
            self.refusals -= 1
            request.setResponseCode(503)
        if path == "/events":
            request.setResponseCode(404)
        return json.dumps({"name": self.name}).encode()

    async def die(self) -> None:
        """Close the port and cut off all connections, as the system does for a killed process."""
        if self.port is not None:
            port, self.port = self.port, None
            await maybeDeferred(port.stopListening)
        for each in self.connections:
            transport: Any = each.transport
            transport.abortConnection()
        while self.connections:
            await deferLater(reactor, 0.005)


class SocketTests(TestCase):
    """A cluster of three, and its client."""

    timeout = 60

    def setUp(self) -> None:
        """Start them."""
        self.leader = "a"
        self.servers = {name: Server(name, self.cluster) for name in ("a", "b", "c")}
        self.addCleanup(lambda: Deferred.fromCoroutine(self.stop()))
        urls = [each.url for each in self.servers.values()]
        self.replicas = Replicas(reactor, urls, ClientSettings(connect_timeout=1.0))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.replicas.close()))

    async def stop(self) -> None:
        """Stop them."""
        await gatherResults([Deferred.fromCoroutine(each.die()) for each in self.servers.values()])

    def cluster(self) -> dict[str, Any]:
        """Return what all of them say of the cluster."""
        members = [
            {
                "name": name,
                "role": "leader" if name == self.leader else "replica",
                "state": "running" if name == self.leader else "streaming",
                "api_url": f"{each.url}/patroni",
                "host": HOST,
                "port": 5432,
                "timeline": 1,
                "lag": 0,
            }
            for name, each in self.servers.items()
        ]
        return {"scope": "demo", "members": members}

    async def in_flight(self, **options: Any) -> Deferred[Any]:
        """Begin a request to the leader, and return it when it is there."""
        server = self.servers[self.leader]
        server.holds = {"/config"}
        options = {"method": "GET", "path": "/config", "target": "leader", **options}
        asking = Deferred.fromCoroutine(self.replicas.request(**options))
        while not server.held:
            await deferLater(reactor, 0.005)
        return asking

    async def test_reading(self) -> None:
        """What only reads survives the leader's death, and is answered by the next leader."""
        async with self.replicas:
            asking = await self.in_flight(timeout=20.0)
            await self.servers["a"].die()
            await deferLater(reactor, 0.2)
            self.assertNoResult(asking)
            self.leader = "b"
            response = await asking
            self.assertEqual(response.json(), {"name": "b"})
            self.assertEqual((await self.replicas.leader()).name, "b")

    async def test_writing(self) -> None:
        """What changes something is not sent again; the next one goes to the next leader."""
        async with self.replicas:
            asking = await self.in_flight(method="PATCH", json={}, retry=True)
            await self.servers["a"].die()
            error = await self.assertFailure(asking, OutcomeUnknown)
            self.assertIn("may have been done", str(error))
            asking = Deferred.fromCoroutine(
                self.replicas.request("PATCH", "/config", json={}, timeout=20.0, retry=True)
            )
            await deferLater(reactor, 0.3)
            self.leader = "c"
            self.assertEqual((await asking).json(), {"name": "c"})
            changes = [each for server in self.servers.values() for each in server.asked]
            self.assertEqual(changes.count(("PATCH", "/config")), 2)

    async def test_replica_dies(self) -> None:
        """Whoever of the replicas dies while it is asked, the other one answers."""
        async with self.replicas:
            for name in ("b", "c"):
                self.servers[name].holds = {"/config"}
            asking = Deferred.fromCoroutine(self.replicas.get("/config"))
            while not (self.servers["b"].held or self.servers["c"].held):
                await deferLater(reactor, 0.005)
            dead, other = ("b", "c") if self.servers["b"].held else ("c", "b")
            self.servers[other].holds = set()
            await self.servers[dead].die()
            self.assertEqual((await asking).json(), {"name": other})
            for _ in range(6):
                self.assertEqual((await self.replicas.get("/history")).json(), {"name": other})

    async def test_late_answer(self) -> None:
        """A leader that has handed over answers what it was asked before."""
        async with self.replicas:
            asking = await self.in_flight(method="PATCH", json={})
            self.leader = "b"
            await self.replicas.wait_for_leader(not_="a")
            await deferLater(reactor, 0.2)
            self.assertNoResult(asking)
            (request,) = self.servers["a"].held
            request.write(self.servers["a"].answer(request))
            request.finish()
            self.assertEqual((await asking).json(), {"name": "a"})

    async def test_called_off(self) -> None:
        """Calling off closes the connection to the leader, and closing those to all."""
        async with self.replicas:
            asking = await self.in_flight()
            (request,) = self.servers["a"].held
            gone = request.notifyFinish()
            asking.cancel()
            await self.assertFailure(asking, Exception)
            await self.assertFailure(gone, Exception)
            await self.replicas.broadcast("GET", "/history")
        while any(each.connections for each in self.servers.values()):
            await deferLater(reactor, 0.005)

    async def test_one_seed_dead(self) -> None:
        """A dead seed is no obstacle; if all are dead, it is told in time."""
        await self.servers["a"].die()
        self.leader = "b"
        async with self.replicas:
            self.assertEqual((await self.replicas.leader()).name, "b")
        for name in ("b", "c"):
            await self.servers[name].die()
        urls = [each.url for each in self.servers.values()]
        replicas = Replicas(reactor, urls, ClientSettings(timeout=0.5))
        starting: Deferred[Any] = Deferred.fromCoroutine(replicas.start())
        error = await self.assertFailure(starting, ClusterUnknown)
        self.assertEqual(set(error.reasons), set(urls))
        await replicas.close()

    async def test_refusing_leader(self) -> None:
        """A leader that refuses for now is asked again by who waits, and by nobody else."""
        async with self.replicas:
            self.servers["a"].refusals = 4
            self.assertEqual((await self.replicas.request("PATCH", "/config")).status, 503)
            response = await self.replicas.request("PATCH", "/config", retry=True)
            self.assertEqual((response.status, response.json()), (200, {"name": "a"}))
            self.assertEqual(self.servers["a"].asked.count(("PATCH", "/config")), 5)

    async def test_two_leaders(self) -> None:
        """Of two that claim to lead the one with the higher timeline is asked."""
        self.servers["b"].claims = 2
        async with self.replicas:
            if (await self.replicas.leader()).name != "b":
                await self.replicas.wait_for_leader(not_="a")
            self.assertEqual([each.name for each in self.replicas.conflict], ["b", "a"])
            response = await self.replicas.request("PATCH", "/config", json={})
            self.assertEqual(response.json(), {"name": "b"})

    async def test_proxy(self) -> None:
        """A proxy's page in place of a member is no obstacle to know the cluster by the others."""
        self.servers["a"].page = (502, b"<html>Bad Gateway</html>")
        self.leader = "b"
        async with self.replicas:
            self.assertEqual((await self.replicas.leader()).name, "b")
            response = await self.replicas.get("/history", target="any", timeout=20.0)
            self.assertIn(response.status, (200, 502))
            for each in self.servers.values():
                each.page = (200, b"<html>Maintenance</html>")
            replicas = Replicas(reactor, self.replicas.seeds, ClientSettings(timeout=1.5))
            starting: Deferred[Any] = Deferred.fromCoroutine(replicas.start())
            error = await self.assertFailure(starting, ClusterUnknown)
            self.assertIn("not JSON", str(error))
            await replicas.close()

    async def test_black_hole(self) -> None:
        """A replica to which no connection comes about is passed over in time."""
        url = f"http://{HOST}:{black_hole(self)}"
        async with self.replicas:
            for name in ("b", "c"):
                self.servers[name].url = url
            while [each.api_url for each in self.replicas.members].count(f"{url}/patroni") < 2:
                await deferLater(reactor, 0.05)
            response = await self.replicas.get("/history", timeout=20.0)
            self.assertEqual(response.json(), {"name": "a"})
