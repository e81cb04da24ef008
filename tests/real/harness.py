"""What the tests on real clusters share: clusters, their processes, and one cluster for many."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import SkipTest

import yaml
from attrs import define
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.postgresql import bindir
from tests.real import prompt_daemon
from tests.real.asking import Api, Reply, eventually, together
from twisted_patroni.demo import CannotStart, Cluster, Node
from twisted_patroni.demo import cluster as demo_cluster
from twisted_patroni.demo.certificates import ClientPolicy
from twisted_patroni.demo.layout import (
    AUTHORITY,
    CLIENT,
    HOST,
    POSTGRES_OFFSET,
    RAFT_OFFSET,
    merged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twisted_patroni.demo.cluster import IClusterReactor

#: The shortest times that upstream accepts, and no care for what a power failure would lose.
QUICK: Mapping[str, Any] = {
    "bootstrap": {
        "dcs": {"ttl": 20, "loop_wait": 1, "retry_timeout": 3},
        "initdb": [
            "data-checksums",
            "no-sync",
            {"encoding": "UTF8"},
            {"locale": "C"},
            {"auth": "scram-sha-256"},
        ],
    },
    "tags": {"site": "attic"},
    "postgresql": {
        "basebackup": ["no-sync", {"checkpoint": "fast"}],
        "parameters": {"fsync": "off", "wal_retrieve_retry_interval": "500ms"},
    },
}

#: The words of ``twistd`` before a node's configuration file.
TWISTD = ("-n", "--pidfile=", "patroni", "--config")

_LOWEST_PORT, _PORTS = 15000, 15000
_given: set[int] = set()
_giving = threading.Lock()
_undestroyed: set[Cluster] = set()
# Tests wait for a cluster a hundred times, its users once.
demo_cluster.POLL = 0.1


def free_ports(count: int, *offsets: int) -> int:
    """Return the first of some adjacent ports that are free, together with those at offsets.

    Each process begins to look at a place of its own, below the ports that the system hands out,
    and gets no port twice, whichever thread asks, nor one that another process may have got: they
    may not be listened on yet, or just now.

    :param count: how many ports.
    :param offsets: what to add to each port for further ports that must be free.
    """
    for turn in range(0, _PORTS, count):
        first = _LOWEST_PORT + (os.getpid() * 130 + turn) % _PORTS
        wanted = {first + number + offset for number in range(count) for offset in (0, *offsets)}
        with _giving:
            if wanted.isdisjoint(_given) and all(_is_ours(p) and _is_free(p) for p in wanted):
                _given.update(wanted)
                return first
    raise SkipTest("no free ports")


def _is_ours(port: int) -> bool:
    """Claim a port for as long as this process lives, or tell that another one has done so."""
    try:
        fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _register() -> int:
    """Return a file of which each byte stands for a port, and is locked by who claims that."""
    path = Path(tempfile.gettempdir(), f"twisted-patroni-tests-{os.getuid()}.ports")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def scratch_directory() -> Path:
    """Return a new directory with a short name, since Unix sockets go there."""
    return Path(tempfile.mkdtemp(prefix="tp-"))


def new_cluster(
    nodes: int = 3,
    *,
    dcs: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    tls: bool = False,
    daemon: Sequence[str] | None = None,
) -> Cluster:
    """Return a cluster that is not started yet; :func:`destroy` it at the end.

    :param nodes: how many nodes.
    :param dcs: the DCS section of the configuration; by default the embedded raft.
    :param overrides: what to change in each node's configuration.
    :param tls: let the REST APIs speak TLS.
    :param daemon: the daemon's command without the configuration file, if not the usual one.
    """
    if daemon is None and dcs is None and nodes > 1:
        daemon = (sys.executable, prompt_daemon.__file__, *TWISTD)
    cluster = Cluster(
        cast("IClusterReactor", reactor),
        scratch_directory(),
        nodes,
        base_port=free_ports(nodes, POSTGRES_OFFSET, RAFT_OFFSET),
        bin_dir=bindir(),
        dcs=dcs,
        config_overrides=merged(QUICK, overrides or {}),
        tls=tls,
        daemon=daemon,
    )
    _undestroyed.add(cluster)
    return cluster


def destroy(cluster: Cluster) -> None:
    """End all processes of a cluster at once and remove its directory; blocks for a moment.

    :param cluster: the cluster, started or not.
    """
    for node in cluster.nodes:
        if node.pid is not None:
            kill(node.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        pids = [pid for node in cluster.nodes if (pid := node.postmaster_pid()) is not None]
        if not pids:
            break
        for pid in pids:
            for one in (pid, *children(pid)):
                kill(one, signal.SIGCONT)
            kill(pid, signal.SIGQUIT)
        time.sleep(0.05)
    _undestroyed.discard(cluster)
    shutil.rmtree(cluster.directory, ignore_errors=True)


@atexit.register
def _destroy_all() -> None:
    for cluster in tuple(_undestroyed):
        destroy(cluster)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended meanwhile.

    :param pid: the process.
    :param number: the signal.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children.

    :param pid: the parent.
    """
    return [child for child, parent in _parents() if parent == pid]


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything; the parent is the second word after.
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(words[1])


def node_file(node: Node) -> dict[str, Any]:
    """Return a node's configuration file as it is now.

    :param node: the node.
    """
    document: dict[str, Any] = yaml.safe_load(node.config_file.read_text())
    return document


def rewrite_node_file(node: Node, changes: Mapping[str, Any]) -> None:
    """Change a node's configuration file, as an operator's editor would.

    :param node: the node.
    :param changes: what to replace, at any depth.
    """
    # In place: whom the file belongs to must not change.
    node.config_file.write_text(yaml.safe_dump(merged(node_file(node), changes)))


def api_of(cluster: Cluster, shown: str | None = CLIENT) -> Api:
    """Return an :class:`Api` that knows the password of a cluster's nodes, and their authority.

    :param cluster: a cluster whose files are written.
    :param shown: over TLS, whose certificate to show; ``None`` to show none.
    """
    login = node_file(cluster.nodes[0])["restapi"]["authentication"]
    keys = cluster.keys
    pair = None if shown is None else (keys.certificate(shown), keys.key(shown))
    policy = ClientPolicy(keys.certificate(AUTHORITY), pair)
    return Api((login["username"], login["password"]), policy)


@define(eq=False)
class _Shared:
    """The cluster that the tests of this process share, and the configuration it began with."""

    cluster: Cluster
    api: Api
    config: Any

    @classmethod
    async def started(cls) -> _Shared:
        cluster = new_cluster()
        await cluster.start()
        await cluster.ready()
        api = api_of(cluster)
        config = await api.ask("GET", f"{cluster.nodes[0].rest_url}/config")
        return cls(cluster, api, config.json())

    async def restore(self) -> None:
        """Bring the cluster back to where each test may begin.

        :raise CannotStart: if it does not recover.
        """
        for node in self.cluster.nodes:
            if not node.is_running:
                node.start()
        await self.cluster.ready()
        url = f"{self.cluster.nodes[0].rest_url}/config"
        if (await self.api.ask("GET", url)).json() != self.config:
            await self.api.ask("PUT", url, self.config)


_shared: _Shared | None = None


async def _shared_cluster() -> _Shared:
    global _shared
    if _shared is not None:
        try:
            await _shared.restore()
        except CannotStart:
            destroy(_shared.cluster)
            _shared = None
    if _shared is None:
        _shared = await _Shared.started()
    return _shared


class ClusterTestCase(TestCase):
    """What tests ask of a real cluster, and wait for."""

    timeout = 240
    cluster: Cluster
    api: Api

    async def ask(self, method: str, node: Node, path: str, document: Any = None) -> Reply:
        """Send a node a request.

        :param method: the method.
        :param node: the node.
        :param path: the path and what follows it.
        :param document: what to send as JSON, if anything.
        """
        return await self.api.ask(method, node.rest_url + path, document)

    async def get(self, node: Node, path: str) -> Any:
        """Return the document a node gives with status 200.

        :param node: the node.
        :param path: the path.
        """
        reply = await self.ask("GET", node, path)
        self.assertEqual(reply.code, 200, reply.text)
        return reply.json()

    async def codes(self, node: Node, *paths: str, method: str = "GET") -> dict[str, int]:
        """Return the status a node gives for each of some paths.

        :param node: the node.
        :param paths: the paths.
        :param method: the method.
        """
        replies = await together(*(self.ask(method, node, path) for path in paths))
        return {path: reply.code for path, reply in zip(paths, replies, strict=True)}

    async def roles(self) -> tuple[Node, list[Node]]:
        """Return the primary and the replicas."""
        leader = await eventually("there is one primary", self.cluster.leader)
        return leader, [node for node in self.cluster.nodes if node is not leader]

    async def answers(
        self, method: str, node: Node, path: str, document: Any, code: int, text: str
    ) -> None:
        """Assert what a node answers to a request.

        :param method: the method.
        :param node: the node.
        :param path: the path.
        :param document: what to send as JSON, if anything.
        :param code: the status expected.
        :param text: the body expected.
        """
        reply = await self.ask(method, node, path, document)
        self.assertEqual((reply.code, reply.text), (code, text))

    async def until(self, node: Node, path: str, code: int, within: float = 30.0) -> Reply:
        """Wait until a node answers with a status.

        :param node: the node.
        :param path: the path asked for.
        :param code: the status expected.
        :param within: after how many seconds the test fails.
        """

        async def look() -> Reply | None:
            reply = await self.ask("GET", node, path)
            return reply if reply.code == code else None

        return await eventually(f"{node.name} answers {path} with {code}", look, within)

    async def until_checks(self, node: Node, expected: Mapping[str, int]) -> None:
        """Wait until a node answers several checks at once as expected.

        :param node: the node.
        :param expected: the status by path.
        """

        async def look() -> bool:
            return await self.codes(node, *expected) == expected

        await eventually(f"{node.name} answers {expected}", look)


class RealClusterTests(ClusterTestCase):
    """Tests of the three-node cluster that all such tests of a process share.

    Each begins with a primary and two replicas that stream, and with the configuration of the
    first; nothing else is promised, least of all who is the primary.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with a healthy cluster."""
        shared = await _shared_cluster()
        self.cluster, self.api = shared.cluster, shared.api
