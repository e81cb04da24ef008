"""SIGTERM: PostgreSQL stops and the leader key goes in bounded time, whatever clients are doing.

Upstream waits for its clients without limit. With one idle connection open it leaves PostgreSQL
writable while another node is promoted.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml
from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.real.asking import eventually, sql
from tests.real.faults import Pair, Siege, run, step
from tests.real.harness import destroy, free_ports, kill, new_cluster, node_file
from tests.real.watching import (
    REFUSED,
    SILENT,
    Sampler,
    Writer,
    now,
    overlap,
    prober,
    sampling,
)
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.demo import Node

#: What clients may add to the time that the engine needs for itself.
ALLOWED = 6.0
#: What the engine may need for itself in the worst case, on the slowest machine.
SECONDS = 25.0
#: Upstream's pause between two attempts to reach etcd.
PAUSE = 5.0


@frozen
class Times:
    """Seconds from the signal.

    :param refused: until the port refuses connections.
    :param stopped: until PostgreSQL is stopped.
    :param released: until the leader key is gone, or another node's.
    :param written: until another node has accepted a write; -1 if none was waited for.
    :param ended: until the process has ended.
    """

    refused: float
    stopped: float
    released: float
    written: float
    ended: float

    def __str__(self) -> str:
        return (
            f"port refuses after {self.refused:.2f} s, PostgreSQL stopped {self.stopped:.2f},"
            f" key released {self.released:.2f}, new primary written to {self.written:.2f},"
            f" process ended {self.ended:.2f}"
        )


@define(eq=False)
class Handover:
    """Watches a leader being stopped and another node taking over.

    :param old: the leader.
    :param new: the other node.
    :param key: looks who holds the leader key.
    """

    old: Node
    new: Node
    key: Callable[[], str | None]
    begun: float = field(default=0.0, init=False)
    ended: float = field(default=0.0, init=False)
    _postmaster: Sampler[int | None] = field(init=False)
    _key: Sampler[str | None] = field(init=False)
    _writers: tuple[Writer, Writer] = field(init=False)
    _writes: tuple[Sampler[int | None], Sampler[int | None]] = field(init=False)
    _primary: tuple[Sampler[int | str], Sampler[int | str]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._postmaster = Sampler(self.old.postmaster_pid)
        self._key = Sampler(self.key)
        self._writers = Writer(self.old), Writer(self.new)
        self._writes = Sampler(self._writers[0].write), Sampler(self._writers[1].write)
        self._primary = prober(self.old, "/primary"), prober(self.new, "/primary")

    async def watch(self, begin: Callable[[], None], signals: tuple[int, ...]) -> int:
        """Stop the leader, wait until the other node accepts writes, and return the exit code.

        :param begin: begins what is to be under way when the leader is stopped.
        :param signals: what the leader is sent.
        """
        with sampling(self._postmaster, self._key, *self._writes, *self._primary):
            await eventually("the old one is written to", self._written(0, 0.0))
            begin()
            await deferLater(reactor, 0.1)
            self.begun = now()
            for number in signals:
                assert self.old.pid is not None
                kill(self.old.pid, number)
            code = await self.old.exited.addTimeout(60.0, reactor)
            self.ended = now()
            await eventually("the new one is written to", self._written(1, self.begun))
            await deferLater(reactor, 0.3)
        for writer in self._writers:
            writer.close()
        return code

    def _written(self, which: int, since: float) -> Callable[[], Any]:
        async def look() -> bool:
            return self._writes[which].first(lambda seen: seen is not None, since) is not None

        return look

    def times(self) -> Times:
        """Return what happened when."""

        def after(sampler: Sampler[Any], wanted: Callable[[Any], bool]) -> float:
            sample = sampler.first(wanted, self.begun)
            assert sample is not None, f"never seen on {self.old.name}"
            return sample.ended - self.begun

        return Times(
            refused=after(self._primary[0], lambda seen: seen == REFUSED),
            stopped=after(self._postmaster, lambda seen: seen is None),
            released=after(self._key, lambda seen: seen != self.old.name),
            written=after(self._writes[1], lambda seen: seen is not None),
            ended=self.ended - self.begun,
        )

    def faults(self) -> list[str]:
        """Return whatever showed two primaries, or a client that was left hanging."""
        found: list[str] = []
        old, new = self._primary
        first = self._writes[1].first(lambda seen: seen is not None, self.begun)
        assert first is not None
        found += [
            f"{self.old.name} accepted {late} after {self.new.name} had accepted {first}"
            for late in self._writes[0].samples
            if late.seen is not None and late.begun > first.ended
        ]
        if (both := overlap(old, new)) is not None:
            found.append(f"both answered /primary with 200: {both}")
        taken = self._key.first(lambda seen: seen == self.new.name, self.begun)
        assert taken is not None
        found += [
            f"{self.old.name} answered {late} to /primary when {self.new.name} had {taken}"
            for late in old.samples
            if late.seen == 200 and late.begun > taken.ended
        ]
        refused = old.first(lambda seen: seen == REFUSED, self.begun)
        assert refused is not None
        found += [
            f"{self.old.name} let a client hang: {sample}"
            for sample in old.samples
            if sample.seen == SILENT or (sample.begun > refused.ended and sample.seen != REFUSED)
        ]
        return found

    async def lost(self) -> set[int]:
        """Return the rows that the old node had accepted and the new one does not have."""
        accepted = {sample.seen for sample in self._writes[0].samples if sample.seen is not None}
        rows = await sql(
            self.new.conninfo, f"SELECT number FROM written WHERE node = '{self.old.name}'"
        )
        return accepted - {number for (number,) in rows}


class ShutdownTests(TestCase):
    """A cluster of two nodes, one of which is stopped again and again."""

    timeout = 300

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with a primary and a replica, and a table to write to."""
        self.pair = await Pair.started(self)
        self.logs = self.pair.logs
        leader, _ = await self.pair.roles()
        await sql(leader.conninfo, "CREATE TABLE written (node text, number int)")

    async def back(self, node: Node) -> None:
        """Start a node again, at once, and wait until all is well.

        :param node: the node.
        """
        node.start()
        await self.pair.cluster.ready()
        leader, _ = await self.pair.roles()
        await sql(leader.conninfo, "TRUNCATE written")

    async def siege(self, node: Node) -> Siege:
        """Lay siege to a node.

        :param node: the node.
        """
        siege = self.pair.siege(self, node)
        await deferToThread(siege.lay)
        self.assertGreater(await self.pair.metric(node, "twisted_patroni_connections"), 60)
        return siege

    async def handover(
        self,
        name: str,
        leader: Node,
        other: Node,
        begin: Callable[[], None],
        *signals: int,
        keeps_all: bool = True,
    ) -> Times:
        """Stop the leader, check that there never were two primaries, and tell how long it took.

        :param name: what is special about it, for the report.
        :param leader: the leader.
        :param other: the other node.
        :param begin: begins what is to be under way meanwhile.
        :param signals: what the leader is sent.
        :param keeps_all: the other node has all that was written.
        """
        handover = Handover(leader, other, self.pair.key)
        self.assertEqual(await handover.watch(begin, signals), 0)
        times = handover.times()
        print(f"\n{name}: {times}")
        self.assertEqual(handover.faults(), [])
        if keeps_all:
            self.assertEqual(await handover.lost(), set())
        self.assertLess(times.refused, ALLOWED)
        return times

    async def test_leader(self) -> None:
        """Clients do not delay the leader's end, and never are there two primaries."""
        with step("nobody is connected", *self.logs):
            leader, other = await self.pair.roles()
            own = await self.handover(
                "nobody connected", leader, other, lambda: None, signal.SIGTERM
            )
            await self.back(leader)
        for name, prepare in (
            ("all kinds of idle clients", self._nothing_more),
            ("a switchover that waits for its candidate", self._switchover),
            ("a restart", self._restart),
        ):
            with step(name, *self.logs):
                leader, other = await self.pair.roles()
                begin = partial(prepare, await self.siege(leader), leader, other)
                # A replica that is not back yet after a restart misses what is written meanwhile,
                # and the engine of a cluster that is not synchronous does not wait for it.
                keeps_all = prepare != self._restart
                signals = signal.SIGTERM, signal.SIGTERM
                times = await self.handover(
                    name, leader, other, begin, *signals, keeps_all=keeps_all
                )
                self.assertLess(times.stopped, own.stopped + ALLOWED)
                self.assertLess(times.released, own.released + ALLOWED)
                self.assertLess(times.ended, own.ended + ALLOWED)
                await self.back(leader)

    def _nothing_more(self, siege: Siege, leader: Node, other: Node) -> None:
        pass

    def _switchover(self, siege: Siege, leader: Node, other: Node) -> None:
        assert other.pid is not None
        kill(other.pid, signal.SIGSTOP)
        reactor.callLater(1.5, kill, other.pid, signal.SIGCONT)
        siege.post("/switchover", {"leader": leader.name, "candidate": other.name})

    def _restart(self, siege: Siege, leader: Node, other: Node) -> None:
        siege.post("/restart", {})

    async def test_others(self) -> None:
        """A replica, a paused node and one without its DCS end as well, each in its way."""
        leader, replica = await self.pair.roles()
        with step("a replica, by SIGINT, while its clients hold on", *self.logs):
            await self.siege(replica)
            primary = prober(leader, "/primary")
            with sampling(primary):
                self.assertLess(await self._end(replica, signal.SIGINT, signal.SIGTERM), SECONDS)
            self.assertEqual({sample.seen for sample in primary.samples}, {200})
            self.assertIsNone(replica.postmaster_pid())
            self.assertNotIn("Traceback", replica.place.log_file.read_text())
            self.assertEqual(self.pair.key(), leader.name)
            await self.back(replica)
        with step("in pause PostgreSQL and the leader key stay", *self.logs):
            await self._pause(leader, True)
            postmaster = leader.postmaster_pid()
            await self.siege(leader)
            self.assertLess(await self._end(leader, signal.SIGTERM), SECONDS)
            self.assertEqual(leader.postmaster_pid(), postmaster)
            self.assertEqual(self.pair.key(), leader.name)
            await self.back(leader)
            self.assertEqual(leader.postmaster_pid(), postmaster)
            await self._pause(leader, False)
        with step("another daemon of the same name", *self.logs):
            await self._namesake(replica)
        with step("the DCS does not answer", *self.logs):
            siege = await self.siege(leader)
            self.pair.etcd.freeze()
            siege.post("/switchover", {"leader": leader.name, "candidate": replica.name})
            seconds = await self._end(leader, signal.SIGTERM)
            self.assertIsNone(leader.postmaster_pid())
            self.pair.etcd.thaw()
            print(f"\nthe DCS does not answer: process ended {seconds:.2f}")
            self.assertLess(seconds, SECONDS)
            await self.back(leader)

    async def _end(self, node: Node, *signals: int) -> float:
        """Stop a node, and return after how many seconds it had ended with exit code 0."""
        begun = now()
        for number in signals:
            assert node.pid is not None
            kill(node.pid, number)
        self.assertEqual(await node.exited.addTimeout(60.0, reactor), 0)
        return now() - begun

    async def _pause(self, node: Node, paused: bool) -> None:
        reply = await self.pair.api.ask("PATCH", f"{node.rest_url}/config", {"pause": paused})
        self.assertEqual(reply.code, 200)

        async def seen() -> bool:
            documents = [
                (await self.pair.api.ask("GET", f"{one.rest_url}/patroni")).json()
                for one in self.pair.cluster.nodes
            ]
            return all(document.get("pause", False) is paused for document in documents)

        await eventually("the nodes know of the pause", seen)

    async def _namesake(self, node: Node) -> None:
        """Start a second daemon with a node's name, on ports of its own."""
        home = node.place.home
        document, port = node_file(node), free_ports(2)
        document["restapi"] |= {"listen": f"{HOST}:{port}", "connect_address": f"{HOST}:{port}"}
        address = f"{HOST}:{port + 1}"
        document["postgresql"] |= {"listen": address, "connect_address": address}
        document["postgresql"]["data_dir"] = str(home / "other")
        config = home / "namesake.yml"
        config.write_text(yaml.safe_dump(document))
        done = await run(*node.command[:-1], str(config))
        self.assertEqual(done.code, 1, done.output)
        text = f"Can't start; there is already a node named '{node.name}' running"
        self.assertIn(f"CRITICAL: {text}\n", done.output)
        self.assertFalse((home / "other").exists())
        self.assertEqual((await self.pair.api.ask("GET", f"{node.rest_url}/replica")).code, 200)


class StartTests(TestCase):
    """A node that has not come so far as to need PostgreSQL."""

    timeout = 120

    async def test_no_dcs(self) -> None:
        """While it waits for a DCS that is not there, a signal ends it at once."""
        cluster = new_cluster(1, dcs={"etcd3": {"hosts": f"{HOST}:{free_ports(1)}"}})
        self.addCleanup(destroy, cluster)
        cluster.prepare()
        (node,) = cluster.nodes
        for number in (signal.SIGTERM, signal.SIGINT):
            with step(signal.Signals(number).name, node.place.log_file):
                node.place.log_file.write_bytes(b"")
                node.start()

                async def waits() -> bool:
                    return "waiting on etcd" in node.place.log_file.read_text()

                await eventually("it waits for etcd", waits)
                begun = now()
                assert node.pid is not None
                kill(node.pid, number)
                self.assertEqual(await node.exited.addTimeout(30.0, reactor), 0)
                self.assertLess(now() - begun, PAUSE)
