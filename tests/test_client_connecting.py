"""Tests of how the client of a cluster comes to a connection to PostgreSQL."""

from __future__ import annotations

from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from tests.replicascase import ReplicasCase
from twisted_patroni.client.errors import NoLeader, NoMember
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.postgres import CannotConnect, Connector


@define(eq=False)
class Door:
    """Opens connections as the test wants.

    :ivar refusing: the hosts that take none.
    :ivar hanging: the hosts that do not answer.
    :ivar asked: the hosts that were asked, and for how many seconds.
    :ivar texts: the connection strings.
    """

    refusing: set[str] = field(factory=set)
    hanging: set[str] = field(factory=set)
    asked: list[tuple[str, float]] = field(factory=list)
    texts: list[str] = field(factory=list)
    waiting: list[Deferred[Any]] = field(factory=list)

    async def connect(self, conninfo: str, timeout: float) -> str:
        """Open a connection, which is a text here."""
        host = dict(each.split("=") for each in conninfo.split())["host"]
        self.asked.append((host, round(timeout, 3)))
        self.texts.append(conninfo)
        if host in self.refusing:
            raise CannotConnect(f"postgresql://{host}:5432", "takes no connection: not now")
        if host in self.hanging:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        return f"connection to {host}"

    def close(self) -> None:
        """Do nothing."""


class ConnectTests(ReplicasCase):
    """Connections to members, which are at 10.0.0.1 to 10.0.0.3."""

    def setUp(self) -> None:
        """Find out about the cluster."""
        super().setUp()
        self.door = Door()
        self.replicas._connector = cast("Connector", self.door)
        self.started()

    def hosts(self) -> list[str]:
        """Name those that were asked so far."""
        return [host for host, _ in self.door.asked]

    def test_conninfo(self) -> None:
        """A connection string leads to a member that is what is asked for."""
        text = self.get(self.replicas.conninfo(dbname="app", user="x"))
        self.assertEqual(
            text, "dbname=app host=10.0.0.1 port=5432 target_session_attrs=read-write user=x"
        )
        self.memory.lag("c", 5000)
        self.pass_time(1.1)
        text = self.get(self.replicas.conninfo("replica", lag="1kB"))
        self.assertEqual(text, "host=10.0.0.2 port=5432 target_session_attrs=standby")
        self.assertNotIn("target", self.get(self.replicas.conninfo("any")))

    def test_conninfo_of_nobody(self) -> None:
        """If nobody is what is asked for right now, that is told at once."""
        self.memory.demote()
        self.fails(self.replicas.conninfo(), NoLeader)
        self.fails(self.replicas.conninfo("replica", lag=-1), ValueError, "lag: '-1'")
        for name in "abc":
            self.memory.lag(name, 5000)
        self.pass_time(1.1)
        self.fails(self.replicas.conninfo("replica", lag=0), NoMember, "within 0 bytes")
        self.fails(self.replicas.conninfo("leaders"), ValueError, "target")
        self.fails(self.replicas.conninfo("any", host="x"), ValueError, "host")
        self.fails(self.replicas.conninfo("any", nonsense="x"), ValueError, "nonsense")

    def test_primary(self) -> None:
        """By default the primary is connected to, and has some seconds to take the connection."""
        self.assertEqual(self.get(self.replicas.connect()), "connection to 10.0.0.1")
        self.assertEqual(self.door.asked, [("10.0.0.1", 2.0)])
        self.get(self.replicas.connect(connect_timeout=5))
        self.get(self.replicas.connect(connect_timeout="0", timeout=7.0))
        self.get(self.replicas.connect(timeout=1.0))
        self.assertEqual([seconds for _, seconds in self.door.asked], [2.0, 5.0, 7.0, 1.0])
        asking = self.replicas.connect(connect_timeout="soon")
        self.fails(asking, ValueError, "connect_timeout: 'soon'")

    def test_next(self) -> None:
        """A replica that takes none is passed over; if all do, that is told."""
        self.door.refusing = {"10.0.0.2"}
        for _ in range(4):
            self.assertEqual(self.get(self.replicas.connect("replica")), "connection to 10.0.0.3")
        self.door.refusing.add("10.0.0.3")
        self.fails(self.replicas.connect("replica"), CannotConnect, "takes no connection: not now")
        self.assertEqual(self.get(self.replicas.connect("any")), "connection to 10.0.0.1")
        self.door.refusing.add("10.0.0.1")
        self.fails(self.replicas.connect(), CannotConnect)

    def test_retry(self) -> None:
        """Who waits is connected to the next primary, as soon as it takes connections."""
        self.door.refusing = {"10.0.0.1", "10.0.0.2"}
        asking = self.begin(self.replicas.connect(timeout=60.0, retry=True))
        self.pass_time(2.0)
        self.assertEqual(set(self.hosts()), {"10.0.0.1"})
        self.memory.switchover("b")
        self.pass_time(2.0)
        self.assertNoResult(asking)
        self.door.refusing.clear()
        self.pass_time(1.1)
        self.assertEqual(self.successResultOf(asking), "connection to 10.0.0.2")

    def test_too_late(self) -> None:
        """It waits until the time is up, and no longer."""
        self.memory.demote()
        asking = self.begin(self.replicas.connect(timeout=3.0, retry=True))
        self.pass_time(2.9)
        self.assertNoResult(asking)
        self.pass_time(0.15)
        self.fails(asking, NoLeader)
        self.fails(self.replicas.connect(), NoLeader)

    def test_cancel(self) -> None:
        """It can be called off, and ends when the client is closed."""
        self.door.hanging = {"10.0.0.1"}
        first = self.begin(self.replicas.connect())
        second = self.begin(self.replicas.connect())
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.get(self.replicas.close())
        self.fails(second, PoolClosed, "is closed")
        self.fails(self.replicas.connect(), PoolClosed)
