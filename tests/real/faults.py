"""What breaks a real cluster: an etcd that can be frozen, and clients that hold on to a node."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from attrs import define, field, frozen
from twisted.internet.threads import deferToThread

from tests.real.asking import Api, Reply, eventually
from tests.real.harness import (
    api_of,
    destroy,
    free_ports,
    new_cluster,
    node_file,
    scratch_directory,
)
from tests.real.watching import now
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from twisted.trial.unittest import TestCase

    from twisted_patroni.demo import Cluster, Node

_LOG_TAIL = 4000


@contextmanager
def step(name: str, *logs: Path) -> Iterator[None]:
    """Name a part of a scenario, so that a failure tells which one it was.

    :param name: what is tried.
    :param logs: files whose ends belong to the report.
    """
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the step: {name}")
        for log in logs:
            error.add_note(f"--- {log}\n{log.read_text(errors='replace')[-_LOG_TAIL:]}")
        raise


@define(eq=False)
class Etcd:
    """One etcd on loopback; blocks while it starts. :meth:`stop` it at the end."""

    port: int = field(init=False)
    _directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        program = shutil.which("etcd")
        if program is None:
            raise SkipTest("no etcd on the PATH")
        self.port = free_ports(2)
        self._directory = scratch_directory()
        client, peer = (f"http://{HOST}:{self.port + number}" for number in (0, 1))
        command = [program, "--data-dir", str(self._directory / "data"), "--unsafe-no-fsync"]
        for option, url in (("client", client), ("peer", peer)):
            command += [f"--listen-{option}-urls", url]
        command += ["--advertise-client-urls", client, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}"]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = now() + 60.0
        while self._range("/") is None:
            if now() > deadline or self._process.poll() is not None:
                self.stop()
                raise AssertionError("etcd does not start")
            time.sleep(0.05)

    @property
    def dcs(self) -> Mapping[str, Any]:
        """The section for the nodes' configuration."""
        return {"etcd3": {"hosts": f"{HOST}:{self.port}"}}

    def freeze(self) -> None:
        """Let it accept connections, and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, frozen or not, and remove what it kept."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def get(self, key: str) -> str | None:
        """Return the value of a key, or ``None`` if it does not exist or nobody answers.

        :param key: the whole key.
        """
        document = self._range(key)
        if document is None or "kvs" not in document:
            return None
        return base64.b64decode(document["kvs"][0]["value"]).decode("utf-8")

    def _range(self, key: str) -> dict[str, Any] | None:
        body = json.dumps({"key": base64.b64encode(key.encode()).decode("ascii")})
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5.0)
        try:
            connection.request("POST", "/v3/kv/range", body)
            document: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return document


def leader_key(node: Node) -> str:
    """Return the DCS key that names the leader.

    :param node: any node of the cluster.
    """
    config = node_file(node)
    return f"{config['namespace'].rstrip('/')}/{config['scope']}/leader"


@define(eq=False)
class Siege:
    """Clients that hold on to a node in every way at once; :meth:`leave` at the end.

    :param port: the node's REST port.
    :param login: user and password, for bodies that are worth waiting for.
    """

    port: int
    login: tuple[str, str]
    _sockets: ExitStack = field(factory=ExitStack, init=False)

    def _connect(self, *words: bytes) -> socket.socket:
        client = self._sockets.enter_context(socket.create_connection((HOST, self.port), 30.0))
        for word in words:
            client.sendall(word)
        return client

    def lay(self, idle: int = 50) -> None:
        """Connect them all.

        :param idle: how many connections that never send anything.
        """
        credentials = base64.b64encode(":".join(self.login).encode())
        head = b"Host: x\r\nAuthorization: Basic " + credentials + b"\r\n"
        for _ in range(idle):
            self._connect()
        for _ in range(5):
            self._connect(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n").recv(4096)
            self._connect(b"GET /primary HTTP/1.1\r\nHost:")
            self._connect(b"PATCH /config HTTP/1.1\r\n", head, b"Content-Length: 100\r\n\r\n{")
        self._flood()

    def _flood(self) -> None:
        """Ask for many pages and read none."""
        client = self._sockets.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((HOST, self.port))
        client.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(1000):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)

    def post(self, path: str, document: Any) -> socket.socket:
        """Send a request with a body and return its connection, unread.

        :param path: the path.
        :param document: the body as JSON.
        """
        credentials = base64.b64encode(":".join(self.login).encode())
        body = json.dumps(document).encode()
        return self._connect(
            b"POST %s HTTP/1.1\r\nHost: x\r\n" % path.encode(),
            b"Authorization: Basic %s\r\n" % credentials,
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
        )

    def leave(self) -> None:
        """Close all connections."""
        self._sockets.close()


@define(eq=False)
class Pair:
    """A cluster of two nodes with an etcd of its own, started for a test and destroyed after it.

    :param etcd: the DCS.
    :param cluster: the nodes.
    :param api: knows their password.
    """

    etcd: Etcd
    cluster: Cluster
    api: Api

    @classmethod
    async def started(cls, test: TestCase, dynamic: Mapping[str, Any] | None = None) -> Pair:
        """Start a primary and a replica.

        :param test: the test that needs them.
        :param dynamic: what to add to the dynamic configuration.
        """
        etcd = await deferToThread(Etcd)
        test.addCleanup(etcd.stop)
        overrides = {"bootstrap": {"dcs": dynamic or {}}}
        cluster = new_cluster(2, dcs=etcd.dcs, overrides=overrides)
        test.addCleanup(destroy, cluster)
        await cluster.start()
        await cluster.ready()
        return cls(etcd, cluster, api_of(cluster))

    @property
    def logs(self) -> list[Path]:
        """The nodes' log files."""
        return [node.place.log_file for node in self.cluster.nodes]

    def key(self) -> str | None:
        """Return who holds the leader key, or ``None``; blocks."""
        return self.etcd.get(leader_key(self.cluster.nodes[0]))

    async def roles(self) -> tuple[Node, Node]:
        """Return the leader and the replica."""
        leader = await eventually("there is one primary", self.cluster.leader)
        (other,) = (node for node in self.cluster.nodes if node is not leader)
        return leader, other

    async def get(self, node: Node, path: str) -> Reply:
        """Ask a node.

        :param node: the node.
        :param path: the path.
        """
        return await self.api.ask("GET", node.rest_url + path)

    async def post(self, node: Node, path: str, document: Any) -> Reply:
        """Ask a node to do something.

        :param node: the node.
        :param path: the path.
        :param document: the body.
        """
        return await self.api.ask("POST", node.rest_url + path, document)

    async def metric(self, node: Node, name: str) -> float:
        """Return the value of a metric.

        :param node: the node.
        :param name: the metric's name.
        """
        return sample_of((await self.get(node, "/metrics")).text, name)

    def siege(self, test: TestCase, node: Node) -> Siege:
        """Return the clients that will hold on to a node, until the test is over at the latest.

        :param test: the test.
        :param node: the node.
        """
        assert self.api.login is not None
        siege = Siege(node.place.rest_port, self.api.login)
        test.addCleanup(siege.leave)
        return siege


def sample_of(metrics: str, name: str) -> float:
    """Return the value of a metric.

    :param metrics: the text of ``/metrics``.
    :param name: the metric's name, without labels.
    """
    for line in metrics.splitlines():
        if line.partition(" ")[0].partition("{")[0] == name:
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}")


@frozen
class Finished:
    """How a command ended.

    :param code: the exit code, negative for a signal's number.
    :param output: what it wrote to standard output and error.
    """

    code: int
    output: str


async def run(*command: str, within: float = 60.0) -> Finished:
    """Run a command to its end.

    :param command: the words.
    :param within: after how many seconds it is killed and the test fails.
    """

    def wait() -> Finished:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=within, text=True
        )
        return Finished(done.returncode, done.stdout)

    return await deferToThread(wait)
