"""Measure the client of a cluster: how many requests it makes, and how soon it follows a failover.

``python -m benchmarks.client`` needs the packages of the extra ``test``, and the program ``etcd``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent, HTTPConnectionPool

from benchmarks.asking import Distant, PlainTreq, rate
from benchmarks.contest import Ground, free_ports, ours
from benchmarks.measure import Plan, Values
from benchmarks.report import Row, plain_table, table
from benchmarks.running import add_options, run, say, scratch, stopped_after, write_down
from benchmarks.stopwatch import TABLE, Course, Moments, timed
from tests.real.faults import Etcd, leader_key
from tests.real.harness import children
from twisted_patroni.client import ClientError, ClientSettings, Replicas
from twisted_patroni.demo import CannotStart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.client import Member
    from twisted_patroni.demo import Node

_BASE_PORT = 20508
_ROUNDS, _QUICK_ROUNDS = 5, 1
_SECONDS, _QUICK_SECONDS = 4.0, 1.0
_PLAN = Plan(loop_wait=1, ttl=20, retry_timeout=3)
_IN_FLIGHT = 64
_PATH = "/patroni"
#: How far away the nodes are, where it is measured how the rate grows with their number.
_DISTANCE = 0.02
_FEW = 4
_PACE = 0.005
_TREQ, _OURS = "treq", "Replicas.get"
_WRITE = "INSERT INTO switchovers VALUES (clock_timestamp())"
_MEMBERS = {"leader": "one member", "replica": "two members", "any": "three members"}

_PARTS = ("speed", "scale", "failover")

_SPEED = (
    Row("rate", "requests, one node", "/s", more=True),
    Row("p50", "p50", "ms"),
    Row("p99", "p99", "ms"),
)
_SCALE = tuple(
    Row(
        f"{target}.rate",
        f"requests, {title}, {_FEW} connections to each, {1000 * _DISTANCE:.0f} ms away",
        "/s",
    )
    for target, title in _MEMBERS.items()
)
_FAILOVER = (
    Row("key", "to the new leader key", "s", worst=True),
    Row(
        "write",
        "to the first write of somebody who tries nothing but the new leader",
        "s",
        worst=True,
    ),
    Row("client", "to the first write of the client", "s", worst=True),
    Row("told", "from the new leader key to the client being told", "ms", worst=True),
    Row("behind", "from the first write there can be to the client's", "ms", worst=True),
)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help=f"default: {_ROUNDS}, quick: {_QUICK_ROUNDS}")
    parser.add_argument("--part", choices=_PARTS, action="append", help="only that; repeatable")
    add_options(parser, _BASE_PORT)
    return parser.parse_args(arguments)


@define(eq=False)
class Contest:
    """The measurements, on one cluster.

    :param reactor: the reactor.
    :param ground: the cluster.
    :param etcd: its DCS.
    :param seconds: how long each load lasts.
    :ivar speed: the rounds of each client.
    :ivar scale: the rounds of how the rate grows with the members.
    :ivar failovers: what each of them took.
    """

    reactor: Any
    ground: Ground
    etcd: Etcd
    seconds: float
    speed: dict[str, list[Values]] = field(factory=lambda: {_TREQ: [], _OURS: []}, init=False)
    scale: list[Values] = field(factory=list, init=False)
    failovers: list[Values] = field(factory=list, init=False)

    @property
    def urls(self) -> list[str]:
        """Where the nodes' APIs are."""
        return [node.rest_url for node in self.ground.cluster.nodes]

    async def stop(self) -> None:
        """Stop the cluster and the DCS."""
        await self.ground.cluster.stop()
        self.etcd.stop()

    async def leader(self) -> Node:
        """Return the leader, when all others follow it."""
        await self.ground.cluster.ready(120.0)
        leader = await self.ground.cluster.leader()
        assert leader is not None
        return leader

    # Requests

    async def measure_speed(self, number: int) -> None:
        """Ask the leader, with treq and with the client, each of them first in every other round.

        :param number: of the round.
        """
        url = f"{(await self.leader()).rest_url}{_PATH}"
        for name in (_TREQ, _OURS)[:: -1 if number % 2 else 1]:
            say(f"round {number + 1}: {name}")
            if name == _TREQ:
                plain = PlainTreq(self.reactor, url, _IN_FLIGHT)
                values = await rate(plain.ask, _IN_FLIGHT, self.seconds)
                await plain.close()
            else:
                values = await self._rate("leader", _IN_FLIGHT)
            self.speed[name].append(values)

    async def measure_scale(self, number: int) -> None:
        """Ask one, two and three members that are some way away.

        :param number: of the round.
        """
        values: Values = {}
        for target, title in _MEMBERS.items():
            say(f"round {number + 1}: {title}, far away")
            pool = HTTPConnectionPool(self.reactor)
            pool.maxPersistentPerHost = _IN_FLIGHT
            distant = Distant(self.reactor, Agent(self.reactor, pool=pool), _DISTANCE)
            found = await self._rate(target, _FEW, distant)
            await pool.closeCachedConnections()
            values |= {f"{target}.{key}": value for key, value in found.items()}
        self.scale.append(values)

    async def _rate(self, target: str, connections: int, agent: Any = None) -> Values:
        settings = ClientSettings(connections=connections)
        async with Replicas(self.reactor, self.urls, settings, agent) as replicas:

            async def ask() -> int:
                return len((await replicas.get(_PATH, target=target)).body)

            return await rate(ask, _IN_FLIGHT, self.seconds)

    # A leader that is killed

    async def measure_failover(self, number: int) -> None:
        """Kill the leader, daemon and PostgreSQL, while the client writes.

        :param number: of the round.
        """
        say(f"round {number + 1}: kill -9")
        leader = await self.leader()
        (candidate,) = (each for each in self.ground.cluster.nodes if each is not leader)
        told: list[float] = []

        def changed(member: Member | None) -> None:
            if member is not None and member.name == candidate.name:
                told.append(time.monotonic())

        async with Replicas(self.reactor, self.urls) as replicas:
            replicas.on_leader_change(changed)
            writer = Writer(self.reactor, replicas, _identity(leader))
            await writer.begin()
            writing = Deferred.fromCoroutine(writer.run())
            course = Course(
                request=b"",
                asked=0,
                candidate=candidate.name,
                port=candidate.place.rest_port,
                conninfo=candidate.conninfo,
                etcd=self.etcd.port,
                key=leader_key(candidate),
                act=lambda: kill_node(leader),
            )
            moments: Moments = await deferToThread(timed, course)
            await deferLater(self.reactor, 1.0)
            writer.running = False
            await writing
        self.failovers.append(_failover(moments, told, writer.moments))
        leader.start()


def _identity(node: Node) -> dict[str, Any]:
    """Return as whom to connect to PostgreSQL."""
    known = conninfo_to_dict(node.conninfo)
    return {key: value for key, value in known.items() if key not in ("host", "port")}


def kill_node(node: Node) -> None:
    """Kill a daemon, and PostgreSQL with all its processes.

    :param node: whose they are.
    """
    postmaster = node.postmaster_pid()
    assert postmaster is not None
    assert node.pid is not None
    for pid in (node.pid, postmaster, *children(postmaster)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _failover(moments: Moments, told: list[float], writes: list[float]) -> Values:
    """Return what a failover took, in seconds, and how far the client was behind, in ms."""
    key, write = moments.seen.get("key"), moments.seen.get("write")
    client = next((each for each in writes if key is not None and each > key), None)
    seen = {"key": key, "write": write, "client": client}
    values: Values = {
        name: None if moment is None else moment - moments.begun for name, moment in seen.items()
    }
    if key is not None and told:
        values["told"] = 1000 * (told[-1] - key)
    if client is not None and write is not None:
        values["behind"] = 1000 * (client - write)
    return values


@define(eq=False)
class Writer:
    """Writes to the primary all the time, over a connection that the client finds for it.

    :param reactor: the reactor.
    :param replicas: the client.
    :param identity: as whom to connect.
    :ivar running: go on.
    :ivar moments: when a row was written.
    """

    reactor: Any
    replicas: Replicas
    identity: dict[str, Any]
    running: bool = field(default=True, init=False)
    moments: list[float] = field(factory=list, init=False)
    _connection: psycopg.Connection[Any] | None = field(default=None, init=False)

    async def begin(self) -> None:
        """Connect."""
        connection = await self.replicas.connect("primary", **self.identity)
        connection.autocommit = True
        self._connection = connection

    async def run(self) -> None:
        """Write until :attr:`running` is false."""
        while self.running:
            try:
                if self._connection is None:
                    await self.begin()
                assert self._connection is not None
                await deferToThread(self._connection.execute, _WRITE)
                self.moments.append(time.monotonic())
            except (ClientError, psycopg.Error):
                self._close()
            await deferLater(self.reactor, _PACE)
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    if shutil.which("etcd") is None:
        raise CannotStart("no etcd on the PATH")
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    seconds = _QUICK_SECONDS if options.quick else _SECONDS
    ports = free_ports(options.base_port, 3)
    with scratch("client") as directory:

        async def contest(nodes: int, *parts: str) -> Contest:
            base_port = next(ports)
            etcd = await deferToThread(Etcd)
            home = directory / str(base_port)
            ground = Ground.prepare(reactor, ours(), home, base_port, _PLAN, nodes, dcs=etcd.dcs)
            found = Contest(reactor, ground, etcd, seconds)
            async with stopped_after(reactor, found.stop):
                say(f"starting {nodes} nodes")
                await ground.start()
                with psycopg.connect((await found.leader()).conninfo, autocommit=True) as link:
                    link.execute(TABLE)
                for number in range(rounds):
                    for part in parts:
                        await getattr(found, f"measure_{part}")(number)
            return found

        results: dict[str, object] = {part: [] for part in _PARTS}
        chosen = options.part or _PARTS
        if asking := [part for part in _PARTS[:2] if part in chosen]:
            found = await contest(3, *asking)
            if "speed" in asking:
                print(table(found.speed, _TREQ, f"GET {_PATH}, {_IN_FLIGHT} in flight", _SPEED))
            if "scale" in asking:
                print(f"\n{plain_table({_OURS: found.scale}, f'GET {_PATH}', _SCALE)}")
            results |= {"speed": found.speed, "scale": found.scale}
        if "failover" in chosen:
            found = await contest(2, "failover")
            title = f"kill -9 of the leader, ttl {_PLAN.ttl}, loop_wait {_PLAN.loop_wait}"
            print(f"\n{plain_table({'seconds': found.failovers}, title, _FAILOVER)}")
            results["failover"] = found.failovers
    write_down(results, options.json)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the tables.

    :param arguments: the command line.
    """
    run(_main, _options(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
