"""The client's node and the project's own API: both mean the same by requests and answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from tests.doubles import FakeEngine, make_cluster, make_replica
from tests.memory_api import ApiInMemory
from twisted_patroni.client.asking import Login
from twisted_patroni.client.errors import (
    Conflict,
    NotFound,
    PreconditionFailed,
    Refused,
    Unauthorized,
)
from twisted_patroni.client.events import NodeEvent, Snapshot
from twisted_patroni.client.node import Node
from twisted_patroni.client.settings import ClientSettings

reactor = cast("Any", global_reactor)

HOST = "127.0.0.1"


class ApiNodeCase(TestCase):
    """The API over a fake engine, on a real socket, and a node that asks it."""

    timeout = 30

    def serve(
        self, engine: FakeEngine | None = None, login: Login | None = None, **section: Any
    ) -> Node:
        """Return a node of an API."""
        api = self.api = ApiInMemory(engine, **section)
        api.open()
        port = reactor.listenTCP(0, api.api.site, interface=HOST)
        # The API's time goes by while the sockets are read.
        passing = LoopingCall(api.clock.advance, 0.01)
        passing.start(0.002)
        settings = ClientSettings(login=login, timeout=20.0)
        node = Node.at(reactor, f"http://{HOST}:{port.getHost().port}", settings)

        async def stop() -> None:
            await node.close()
            await maybeDeferred(port.stopListening)
            while api.api.site.connections:
                await Deferred.fromCoroutine(_turn())
            passing.stop()
            api.clock.stop_listening()

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return node


async def _turn() -> None:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0.01, waiting.callback, None)
    await waiting


class ApiTests(ApiNodeCase):
    """Each method, and what the API makes of it."""

    async def test_reading(self) -> None:
        """What it tells of itself and of the cluster is read."""
        node = self.serve()
        status = await node.status()
        self.assertEqual((status.name, status.role, status.timeline), ("alpha", "primary", 3))
        cluster = await node.cluster()
        self.assertEqual([member.name for member in cluster.members], ["alpha", "beta", "gamma"])
        self.assertEqual(await node.history(), [])
        self.assertEqual(await node.config(), {"ttl": 30})
        self.assertIsNone(await node.failsafe())
        self.assertIn("patroni_primary", await node.metrics())

    async def test_checks(self) -> None:
        """It is what a leader is, and nothing else."""
        node = self.serve()
        for check in (
            node.is_primary,
            node.is_leader,
            node.is_read_write,
            node.is_read_only,
            node.is_read_only_synchronous,
            node.is_read_only_quorum,
            node.is_healthy,
            node.is_alive,
            node.is_ready,
        ):
            self.assertTrue(await check(), check)
        for check in (
            node.is_replica,
            node.is_standby_leader,
            node.is_synchronous,
            node.is_asynchronous,
            node.is_quorum,
        ):
            self.assertFalse(await check(), check)

    async def test_amounts(self) -> None:
        """Lags that the client sends are lags that nodes understand."""
        node = self.serve(FakeEngine(make_replica()))
        for lag in (2**40, "1.5GB", "1e12", "1024 MB", "1TB", None):
            self.assertTrue(await node.is_replica(lag), lag)
        for lag in (0, "1B"):
            self.assertFalse(await node.is_replica(lag), lag)

    async def test_drain(self) -> None:
        """A drain is begun, seen and ended."""
        node = self.serve(FakeEngine(make_replica()))
        drain = await node.drain("new kernel", expires=timedelta(minutes=5))
        assert drain.expires is not None
        assert drain.since is not None
        self.assertEqual(drain.expires - drain.since, timedelta(minutes=5))
        self.assertEqual((await node.status()).drain, drain)
        self.assertFalse(await node.is_replica())
        self.assertEqual(await node.undrain(), drain)
        self.assertIsNone(await node.undrain())
        self.assertTrue(await node.is_replica())
        with self.assertRaisesRegex(Refused, "expires: .* is not in the future"):
            await node.drain(expires=timedelta(seconds=-5))

    async def test_foresee(self) -> None:
        """A forecast says what would be, and nothing is done."""
        node = self.serve()
        forecast = await node.foresee.switchover("alpha", "beta")
        self.assertTrue(forecast.possible)
        self.assertEqual([each.name for each in forecast.candidates], ["beta", "gamma"])
        self.assertEqual((await node.foresee.failover("beta")).action, "failover")
        self.assertEqual((await node.foresee.restart(role="primary")).node, "alpha")
        self.assertFalse((await node.foresee.reinitialize()).possible)
        self.assertEqual(await node.operations(), [])

    async def test_begin(self) -> None:
        """What is begun has an id, can be waited for, and is the same if it is repeated."""
        node = self.serve()
        begun = await node.begin.switchover("alpha", "beta", key="maintenance-4711")
        self.assertEqual((begun.kind, begun.state), ("switchover", "running"))
        again = await node.begin.switchover("alpha", "beta", key="maintenance-4711")
        self.assertEqual(again.id, begun.id)
        with self.assertRaisesRegex(Refused, "belongs to another request"):
            await node.begin.switchover("alpha", key="maintenance-4711")
        waiting = Deferred.fromCoroutine(node.wait(begun))
        self.api.engine.dcs = make_cluster(leader="beta")
        self.api.engine.look()
        ended = await waiting
        self.assertEqual((ended.state, ended.status), ("succeeded", 200))
        self.assertEqual(ended.text, 'Successfully switched over to "beta"')
        with self.assertRaises(Conflict):
            await node.cancel_operation(ended)
        with self.assertRaises(NotFound):
            await node.operation("op-0")

    async def test_refused(self) -> None:
        """Reasons come with a refusal, whether or not somebody waits."""
        node = self.serve()
        for ask in (node.switchover, node.begin.switchover):
            with self.assertRaises(PreconditionFailed) as caught:
                await ask("beta", "gamma")
            names = {each.name: each.eligible for each in caught.exception.candidates}
            self.assertTrue(names["gamma"])

    async def test_follow(self) -> None:
        """Events come as they happen, and where one has left off he can go on."""
        node = self.serve()
        self.api.engine.look()
        position = None
        async for event in node.follow():
            if isinstance(event, Snapshot):
                self.assertEqual((event.leader, len(event.members)), ("alpha", 3))
                await node.drain("new kernel")
                await node.undrain()
            else:
                assert isinstance(event, NodeEvent)
                self.assertEqual((event.name, event.changed), ("alpha", ("drain",)))
                position = event.position
                break
        async for event in node.follow(after=position):
            assert isinstance(event, NodeEvent)
            self.assertIsNone(event.data["drain"])
            break

    async def test_login(self) -> None:
        """Who shows a password may act, and others may not."""
        section: dict[str, Any] = {"authentication": {"username": "demo", "password": "secret"}}
        node = self.serve(login=Login("demo", "secret"), **section)
        self.assertEqual((await node.reload()).status, 202)
        self.assertEqual((await node.drain()).owner, "demo")
        stranger = Node.at(reactor, node.url, ClientSettings(login=Login("demo", "other")))
        self.addCleanup(stranger.close)
        with self.assertRaises(Unauthorized):
            await stranger.reload()
