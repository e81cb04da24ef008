"""How soon each node of a real cluster tells of a new leader, by its events."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.real import telling_daemon
from tests.real.asking import eventually
from tests.real.faults import Etcd, Pair, leader_key, step
from tests.real.harness import TWISTD, ClusterTestCase, api_of, destroy, new_cluster
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted_patroni.demo import Node

#: Cycles far apart, so that whoever learns of a leader from a cycle only is found to be late.
SLOW = {"ttl": 20, "loop_wait": 8, "retry_timeout": 3}
#: Seconds within which each node tells of a new leader, on a machine that has much else to do.
SOON = 0.75


@frozen
class Seen:
    """A leader, and when it was seen.

    :param at: Unix time.
    :param leader: its name.
    """

    at: float
    leader: str


class Reader(threading.Thread):
    """Follows a node's events in a thread, as a browser would.

    :param node: the node.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._connection = http.client.HTTPConnection(HOST, node.place.rest_port)
        self._connection.connect()
        self._socket = self._connection.sock
        self.start()

    def run(self) -> None:
        """Note each event and when it came, until the node or :meth:`stop` ends it."""
        self._connection.request("GET", "/events", headers={"Accept": "text/event-stream"})
        with contextlib.suppress(OSError, http.client.HTTPException):
            for line in self._connection.getresponse():
                if line.startswith(b"data:"):
                    self.events.append((time.time(), json.loads(line[5:])))
        self._connection.close()

    def stop(self) -> None:
        """Follow no more; closing the connection would wait for the thread that reads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def leaders(self) -> list[Seen]:
        """Return the leader that the node has begun with, and those it has told of."""
        found = []
        for at, event in list(self.events):
            data = event.get("data", {})
            if event.get("type") == "snapshot":
                found.append(Seen(at, data["leader"]))
            elif event.get("type") == "leader":
                found.append(Seen(at, data["new"]))
        return found


@define(eq=False)
class KeyWatch:
    """Watches the leader key in etcd, over its HTTP gateway, in a thread.

    :param port: etcd's.
    :param key: the key.
    """

    port: int
    key: str
    seen: list[Seen] = field(factory=list, init=False)
    _connection: http.client.HTTPConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(HOST, self.port)
        self._connection.connect()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        key = base64.b64encode(self.key.encode()).decode("ascii")
        self._connection.request("POST", "/v3/watch", json.dumps({"create_request": {"key": key}}))
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            for line in self._connection.getresponse():
                at = time.time()
                for event in json.loads(line)["result"].get("events", ()):
                    pair = event["kv"]
                    if event.get("type", "PUT") == "PUT" and pair.get("version") == "1":
                        self.seen.append(Seen(at, base64.b64decode(pair["value"]).decode()))
        self._connection.close()

    def stop(self) -> None:
        """Watch no more; closing the connection would wait for the thread that reads."""
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)


class WatchingCase(ClusterTestCase):
    """Three nodes whose events are followed."""

    timeout = 240
    dcs_name: str

    async def begin(
        self, dcs: Mapping[str, Any] | None = None, daemon: Sequence[str] | None = None
    ) -> None:
        """Start the nodes.

        :param dcs: the DCS section of the configuration.
        :param daemon: the daemon's command.
        """
        overrides = {"bootstrap": {"dcs": SLOW}}
        self.cluster = new_cluster(dcs=dcs, overrides=overrides, daemon=daemon)
        self.addCleanup(destroy, self.cluster)
        await self.cluster.start()
        await self.cluster.ready()
        self.api = api_of(self.cluster)
        self.readers = {node.name: Reader(node) for node in self.cluster.nodes}
        for reader in self.readers.values():
            self.addCleanup(reader.stop)

    def keys(self) -> list[Seen]:
        """Return the leaders that the DCS has had, as seen there."""
        raise NotImplementedError

    async def switchover(self) -> None:
        """Switch over; all nodes tell of the new leader soon."""
        with step("the first leader"):
            await self.all_told(list(self.cluster.nodes), 1)
        with step("switchover"):
            leader, (candidate, asked) = await self.roles()
            body = {"leader": leader.name, "candidate": candidate.name}
            reply = await self.ask("POST", asked, "/switchover", body)
            self.assertEqual(reply.code, 200, reply.text)
            await self.soon("switchover", leader, list(self.cluster.nodes), 2)

    async def death(self) -> list[Node]:
        """Kill the leader; the others, which are returned, tell of the new one soon."""
        with step("kill -9"):
            await self.cluster.ready()
            leader, others = await self.roles()
            await leader.stop("KILL")
            await self.soon("kill -9", leader, others, 3)
        return others

    async def all_told(self, nodes: list[Node], number: int) -> None:
        """Wait until nodes have told of so many leaders as there have been.

        :param nodes: the nodes.
        :param number: how many there have been.
        """

        async def look() -> bool:
            found = [self.readers[node.name].leaders() for node in nodes]
            keys = self.keys()
            last = {each[-1].leader if each else None for each in found}
            return len(keys) >= number and last == {keys[-1].leader}

        await eventually(f"{number} leaders are told of", look, 60.0)

    async def soon(self, what: str, old: Node, nodes: list[Node], number: int) -> None:
        """Assert that nodes tell of a new leader once and soon, and print how soon.

        :param what: how it came to it.
        :param old: the leader before.
        :param nodes: the nodes.
        :param number: how many leaders there have been.
        """
        await self.all_told(nodes, number)
        key = self.keys()[-1]
        delays = {}
        for node in nodes:
            delays[node] = self.readers[node.name].leaders()[-1].at - key.at
        words = ", ".join(
            f"{'new' if node.name == key.leader else 'old' if node is old else 'third'} leader"
            f" {1000 * delay:+.0f} ms"
            for node, delay in delays.items()
        )
        print(f"\n{self.dcs_name}, {what}: {words}")
        for node, delay in delays.items():
            self.assertLess(delay, SOON, f"{node.name}: {words}")

    def orderly(self, node: Node) -> None:
        """Assert that a node has told each leader once, with numbers that grow by one.

        :param node: the node.
        """
        reader = self.readers[node.name]
        (_, snapshot), *events = reader.events
        numbers = [event["number"] for _, event in events]
        first = snapshot["number"] + 1
        self.assertEqual(numbers, list(range(first, first + len(numbers))))
        self.assertEqual(
            [each.leader for each in reader.leaders()], [each.leader for each in self.keys()]
        )
        reached = [event["data"]["dcs"] for _, event in events if event["type"] == "cluster"]
        self.assertNotIn(False, reached, "the DCS was there all the time")


class EtcdTests(WatchingCase):
    """Nodes on etcd, whose leader key is watched there."""

    dcs_name = "etcd3"

    async def test_leaders(self) -> None:
        """Each node tells of each leader once, soon after etcd has it."""
        etcd = await deferToThread(Etcd)
        self.addCleanup(etcd.stop)
        await self.begin(etcd.dcs)
        leader, _ = await self.roles()
        self.watch = KeyWatch(etcd.port, leader_key(leader))
        self.addCleanup(self.watch.stop)
        self.first = Seen(0.0, leader.name)
        await self.switchover()
        for node in await self.death():
            self.orderly(node)

    def keys(self) -> list[Seen]:
        """Return what etcd has told."""
        return [self.first, *self.watch.seen]


class RaftTests(WatchingCase):
    """Nodes with the embedded raft; the first of them that has the key counts."""

    dcs_name = "raft"

    async def test_leaders(self) -> None:
        """Each node tells of each leader once, soon after raft has it."""
        await self.begin(daemon=(sys.executable, telling_daemon.__file__, *TWISTD))
        await self.switchover()
        for node in self.cluster.nodes:
            self.orderly(node)

    def keys(self) -> list[Seen]:
        """Return what the nodes' copies of the key have been, each once."""
        seen = []
        for node in self.cluster.nodes:
            for line in (node.place.home / "keys").read_text().splitlines():
                document = json.loads(line)
                seen.append(Seen(document["at"], document["leader"]))
        found: list[Seen] = []
        for each in sorted(seen, key=lambda one: one.at):
            if not found or found[-1].leader != each.leader:
                found.append(each)
        return found


class OutageTests(TestCase):
    """A DCS that does not answer for a while."""

    timeout = 240

    async def test_etcd(self) -> None:
        """Each node tells once that it is away and once that it is back, and who leads then."""
        pair = await Pair.started(self)
        readers = [Reader(node) for node in pair.cluster.nodes]
        for reader in readers:
            self.addCleanup(reader.stop)
        with step("etcd is frozen", *pair.logs):
            pair.etcd.freeze()
            await eventually("all miss the DCS", lambda: self.all_have(readers, [False]))
        with step("etcd goes on", *pair.logs):
            pair.etcd.thaw()
            await eventually("all have it back", lambda: self.all_have(readers, [False, True]))
            leader, _ = await pair.roles()
            self.assertEqual({each.leaders()[-1].leader for each in readers}, {leader.name})
            await self.all_have(readers, [False, True])

    async def all_have(self, readers: list[Reader], wanted: list[bool]) -> bool:
        """Tell whether this is what all nodes have told of the DCS; more than that is an error.

        :param readers: those who follow them.
        :param wanted: whether it can be reached, for each change of that.
        """
        told = [
            [
                event["data"]["dcs"]
                for _, event in list(reader.events)
                if event["type"] == "cluster" and "dcs" in event["data"]["changed"]
            ]
            for reader in readers
        ]
        self.assertLessEqual(max(map(len, told)), len(wanted), told)
        return all(each == wanted for each in told)
