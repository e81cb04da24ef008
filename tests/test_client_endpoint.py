"""The endpoint leads to the member that fits, by what the cluster and that member say now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.error import ConnectionRefusedError as RefusedConnection
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_patroni.client.amounts import size_of
from twisted_patroni.client.endpoint import PatroniEndpoint
from twisted_patroni.client.errors import ClusterUnknown, NoLeader, NoMember
from twisted_patroni.client.finding import Aim, Place
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.testing import MemoryCluster
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory


#: Where the PostgreSQL of each member is.
A, B, C = (f"10.0.0.{number}" for number in (1, 2, 3))


@define(eq=False)
class Ports:
    """The servers that an endpoint could connect to.

    :ivar asked: host and port of each attempt.
    :ivar closed: those that refuse connections.
    :ivar silent: those that do not answer.
    :ivar cancelled: attempts that were given up.
    """

    asked: list[tuple[str, int]] = field(factory=list)
    closed: set[str] = field(factory=set)
    silent: set[str] = field(factory=set)
    cancelled: list[str] = field(factory=list)

    def route(self, host: str, port: int) -> IStreamClientEndpoint:
        """Return the endpoint of one of them."""
        return _Port(self, host, port)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _Port:
    ports: Ports
    host: str
    port: int

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect, or not."""
        self.ports.asked.append((self.host, self.port))
        if self.host in self.ports.closed:
            return fail(RefusedConnection())
        if self.host in self.ports.silent:
            return Deferred(self.cancelled)
        build: Any = factory.buildProtocol
        connecting: Deferred[Any] = maybeDeferred(build, None)
        return connecting

    def cancelled(self, connecting: Deferred[Any]) -> None:
        """Give an attempt up, with the error of Twisted's own endpoints."""
        self.ports.cancelled.append(self.host)
        connecting.errback(ConnectingCancelledError(IPv4Address("TCP", self.host, self.port)))


class EndpointCase(SynchronousTestCase):
    """A cluster in memory whose ``a`` leads."""

    def setUp(self) -> None:
        """Begin with all members well."""
        self.memory = MemoryCluster()
        self.ports = Ports()
        self.addCleanup(lambda: self.assertEqual(self.memory.clock.getDelayedCalls(), []))

    def endpoint(self, *words: Any, seeds: Any = None, **settings: Any) -> PatroniEndpoint:
        """Return the endpoint for what is wanted: target, port, lag."""
        return PatroniEndpoint(
            self.memory.clock,
            self.memory.urls if seeds is None else seeds,
            ClientSettings(**settings),
            Aim(*words),
            agent=self.memory,
            random=lambda: 0.5,
            route=self.ports.route,
        )

    def connect(self, *words: Any, **options: Any) -> Deferred[Any]:
        """Begin to connect."""
        endpoint = self.endpoint(*words, **options)
        verifyObject(IStreamClientEndpoint, endpoint)
        return endpoint.connect(Factory.forProtocol(Protocol))

    def tell(self, name: str, **changes: Any) -> None:
        """Let all nodes tell something else of a member."""
        old = self.successResultOf(Deferred.fromCoroutine(MemoryCluster().node("b").cluster()))
        members = [
            {**each, **changes} if each["name"] == name else each
            for each in old.document["members"]
        ]
        for each in "abc":
            self.memory.answer(each, "/cluster", 200, {**old.document, "members": members})

    def connected(self, *words: Any, **options: Any) -> list[str]:
        """Connect and return the hosts that were tried."""
        self.ports.asked.clear()
        self.assertIsInstance(self.successResultOf(self.connect(*words, **options)), Protocol)
        return self.tried()

    def tried(self) -> list[str]:
        """Return the hosts whose PostgreSQL was tried."""
        for _, port in self.ports.asked:
            self.assertEqual(port, 5432)
        return [host for host, _ in self.ports.asked]

    def refused(self, kind: type[Exception], *words: Any, **options: Any) -> str:
        """Connect in vain and return why."""
        return str(self.failureResultOf(self.connect(*words, **options), kind).value)


class PrimaryTests(EndpointCase):
    """The primary."""

    def test_primary(self) -> None:
        """It is the leader's PostgreSQL, found by two requests, also when another one leads."""
        self.assertEqual(self.connected(), [A])
        paths = [url.rpartition("/")[2] for _, url in self.memory.asked]
        self.assertEqual(paths, ["cluster", "primary"])
        self.memory.switchover("b")
        self.assertEqual(self.connected(), [B])

    def test_rest(self) -> None:
        """It may be its REST API, too."""
        self.successResultOf(self.connect("primary", "rest"))
        self.assertEqual(self.ports.asked, [("a", 8008)])

    def test_dead_seeds(self) -> None:
        """Hosts that refuse connections are passed over at once; one that lives is enough."""
        self.memory.switchover("c")
        self.memory.kill("a")
        self.memory.kill("b")
        self.assertEqual(self.connected(), [C])

    def test_silent_seed(self) -> None:
        """For a host that does not answer nobody waits longer than a moment."""
        self.memory.switchover("c")
        self.memory.hang("a")
        self.memory.hang("b")
        connecting = self.connect()
        self.memory.clock.advance(0.2)
        self.assertNoResult(connecting)
        self.memory.clock.advance(0.2)
        self.successResultOf(connecting)
        self.assertEqual(self.tried(), [C])

    def test_replaced(self) -> None:
        """A leader that is not the primary any more, or not yet, is not connected to."""
        self.memory.answer("a", "/primary", 503, {})
        text = self.refused(NoMember)
        self.assertIn("no primary can be connected to: a (", text)
        self.assertIn(") says that it is no primary to connect to now", text)
        self.assertEqual(self.ports.asked, [])

    def test_dead(self) -> None:
        """A leader that has died unnoticed is none to connect to, whatever others say of it."""
        self.memory.kill("a", noticed=False)
        text = self.refused(NoMember)
        self.assertIn("http://a:8008/primary refuses connections", text)
        self.assertEqual(self.ports.asked, [])

    def test_other_view(self) -> None:
        """If nobody fits in one node's view, the others are heard."""
        old = self.successResultOf(Deferred.fromCoroutine(self.memory.node("a").cluster()))
        self.memory.switchover("b")
        self.memory.answer("a", "/cluster", 200, old.document)
        self.assertEqual(self.connected(), [B])

    def test_standby_cluster(self) -> None:
        """The leader of a standby cluster counts as its primary, by the check that is for it."""
        self.tell("a", role="standby_leader")
        self.refused(NoMember)
        self.memory.answer("a", "/standby-leader", 200, {})
        self.assertEqual(self.connected(), [A])

    def test_no_address(self) -> None:
        """A leader that does not tell where it can be asked is none to connect to."""
        self.tell("a", api_url=None)
        self.assertIn(") tells no address of its API", self.refused(NoMember))
        self.tell("a", host=None)
        self.assertTrue(self.refused(NoLeader).startswith("the cluster has no leader that tells"))

    def test_no_leader(self) -> None:
        """Without a leader the error says who is there."""
        self.memory.demote()
        text = self.refused(NoLeader)
        self.assertTrue(text.startswith("the cluster has no leader now: a is replica ("), text)

    def test_refused(self) -> None:
        """A primary whose PostgreSQL refuses connections is named."""
        self.ports.closed.add(A)
        text = self.refused(NoMember)
        self.assertIn(f"a ({A}:5432) refuses connections", text)

    def test_nobody(self) -> None:
        """If no host answers, each is named with its reason."""
        for name in "abc":
            self.memory.kill(name)
        text = self.refused(ClusterUnknown, seeds=self.memory.urls[:2])
        self.assertEqual(
            text,
            "no node can be asked: http://a:8008/cluster refuses connections;"
            " http://b:8008/cluster refuses connections",
        )


class ReplicaTests(EndpointCase):
    """Replicas, and whoever will do."""

    def test_next(self) -> None:
        """A replica that refuses is followed by the next; one that does not answer, too."""
        self.assertEqual(self.connected("replica"), [B])
        self.ports.closed.add(B)
        self.assertEqual(self.connected("replica"), [B, C])
        self.memory.hang("b")
        self.ports.closed.clear()
        self.ports.asked.clear()
        connecting = self.connect("replica", seeds=self.memory.urls[2:])
        self.memory.clock.advance(3)
        self.successResultOf(connecting)
        self.assertEqual(self.tried(), [C])

    def test_checked(self) -> None:
        """A replica that balancers are told to leave is left alone."""
        self.memory.answer("b", "/replica", 503, {})
        self.assertEqual(self.connected("replica"), [C])

    def test_lag(self) -> None:
        """One that is too far behind does not fit."""
        self.memory.lag("b", 5000)
        self.memory.lag("c", 100)
        self.assertEqual(self.connected("replica", "postgres", 1000), [C])
        self.memory.lag("c", 5000)
        text = self.refused(NoMember, "replica", "postgres", 1000)
        self.assertIn("the cluster has no replica within 1000 bytes of lag now: a is leader", text)
        self.assertIn("5000 bytes behind", text)

    def test_any(self) -> None:
        """Any member is the leader, too, if all others refuse."""
        self.ports.closed |= {B, C}
        self.assertEqual(self.connected("any")[-1], A)


class EndTests(EndpointCase):
    """When it takes too long."""

    def test_deadline(self) -> None:
        """At the deadline the error says who has not answered, and all is given up."""
        for name in "abc":
            self.memory.hang(name)
        connecting = self.connect(timeout=2.0)
        self.memory.clock.pump([0.1] * 21)
        text = str(self.failureResultOf(connecting, ClusterUnknown).value)
        self.assertEqual(text.count("answer"), 3)
        self.assertEqual(self.memory.open, 0)

    def test_deadline_of_connection(self) -> None:
        """So it does if PostgreSQL does not answer, whose connection is given up."""
        self.ports.silent.add(A)
        connecting = self.connect(timeout=2.0)
        self.memory.clock.advance(2)
        text = str(self.failureResultOf(connecting, NoMember).value)
        self.assertIn(f"a ({A}:5432) does not answer", text)
        self.assertEqual(self.ports.cancelled, [A])

    def test_cancel(self) -> None:
        """Who gives up gives up everything: requests, timers and connections."""
        self.ports.silent.add(B)
        connecting = self.connect("replica")
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual((self.tried(), self.ports.cancelled), ([B], [B]))
        for name in "abc":
            self.memory.hang(name)
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)

    def test_broken_factory(self) -> None:
        """A protocol that cannot be built is no fault of a member."""
        broken: Any = lambda: 1 / 0  # noqa: E731
        factory = Factory.forProtocol(broken)
        endpoint = self.endpoint("replica")
        self.failureResultOf(endpoint.connect(factory), ZeroDivisionError)


class PlaceTests(SynchronousTestCase):
    """Where members are."""

    def test_places(self) -> None:
        """Places are written as users write them; what cannot be one is none."""
        member = Member("a", host="::1", port=5432, api_url="https://[::1]/patroni")
        self.assertEqual(str(Place.of(member, "postgres")), "[::1]:5432")
        self.assertEqual(str(Place.of(member, "rest")), "[::1]:443")
        strange: tuple[dict[str, Any], ...] = (
            {},
            {"host": "a b"},
            {"host": "a,b"},
            {"host": "a\n"},
            {"host": "a", "port": 0},
        )
        for changes in strange:
            member = Member("a", **{"port": 5432, **changes})
            self.assertIsNone(Place.of(member, "postgres"), str(changes))
        self.assertIsNone(Place.of(Member("a", api_url="ftp://a"), "rest"))

    def test_sizes(self) -> None:
        """Sizes have the units of PostgreSQL."""
        for text, size in (
            ("5", 5),
            ("1kB", 1024),
            (" 1 MB", 2**20),
            ("2GB", 2**31),
            ("1.5kB", 1536),
        ):
            self.assertEqual(size_of(text), size)
        for text in ("", "x", "-1", "1.MiB", "1mb", "9" * 20):
            self.assertRaises(ValueError, size_of, text)
