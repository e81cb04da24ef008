"""What breaks a real cluster, and what watches it break: etcd, ill-mannered clients, samplers."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from unittest import SkipTest

import psycopg
from attrs import define, field, frozen
from twisted.internet.threads import deferToThread

from tests.real.harness import free_ports, node_file, scratch_directory
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from twisted_patroni.demo import Node

_T = TypeVar("_T")
_LOG_TAIL = 4000

REFUSED = "refused"
SILENT = "silent"


def now() -> float:
    """Return the time that all observations here are marked with."""
    return time.monotonic()


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
        deadline = now() + 20.0
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
        connection = http.client.HTTPConnection(HOST, self.port, timeout=1.0)
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


@frozen
class Sample(Generic[_T]):
    """Something seen.

    :param begun: when the look began.
    :param ended: when it ended.
    :param seen: what was seen.
    """

    begun: float
    ended: float
    seen: _T


class Sampler(threading.Thread, Generic[_T]):
    """Looks again and again in a thread of its own, and remembers what it saw and when.

    :param look: looks once; must return within some seconds.
    :param pause: seconds between two looks.
    """

    def __init__(self, look: Callable[[], _T], pause: float = 0.005) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample[_T]] = []
        self._look = look
        self._pause = pause
        self._over = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._over.is_set():
            begun = now()
            seen = self._look()
            self.samples.append(Sample(begun, now(), seen))
            self._over.wait(self._pause)

    def stop(self) -> list[Sample[_T]]:
        """Look no more, and return all samples; blocks until the last look has ended."""
        self._over.set()
        self.join(10.0)
        return self.samples

    def first(self, wanted: Callable[[_T], bool], since: float = 0.0) -> Sample[_T] | None:
        """Return the first sample that is wanted.

        :param wanted: decides.
        :param since: looks that began earlier do not count.
        """
        for sample in self.samples:
            if sample.begun >= since and wanted(sample.seen):
                return sample
        return None


@contextmanager
def sampling(*samplers: Sampler[Any]) -> Iterator[None]:
    """Have samplers look while a block runs.

    :param samplers: the samplers.
    """
    for sampler in samplers:
        sampler.start()
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.stop()


def probe(port: int, path: str, timeout: float = 2.0) -> int | str:
    """Return a node's status for a path, or :data:`REFUSED` or :data:`SILENT`; blocks.

    :param port: the node's REST port.
    :param path: the path.
    :param timeout: for the connection and for each read.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return SILENT
    except (OSError, http.client.HTTPException):
        return "cut"
    finally:
        connection.close()


def prober(node: Node, path: str) -> Sampler[int | str]:
    """Return a sampler of a node's status for a path.

    :param node: the node.
    :param path: the path.
    """
    return Sampler(lambda: probe(node.place.rest_port, path))


@define(eq=False)
class Writer:
    """Writes rows into the table ``written`` of one node, whatever the node's role.

    :param node: the node.
    """

    node: Node
    _connection: psycopg.Connection[Any] | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def write(self) -> int | None:
        """Write a row; return its number if that was accepted."""
        self._count += 1
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self.node.conninfo, connect_timeout=2, autocommit=True
                )
            self._connection.execute(
                "INSERT INTO written VALUES (%s, %s)", (self.node.name, self._count)
            )
        except psycopg.OperationalError:
            self.close()
            return None
        except psycopg.Error:  # read-only
            return None
        return self._count

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def held(sampler: Sampler[int | str]) -> Sequence[Sample[int | str]]:
    """Return the samples with status 200.

    :param sampler: a sampler of a status.
    """
    return [sample for sample in sampler.samples if sample.seen == 200]


def overlap(one: Sampler[int | str], other: Sampler[int | str]) -> str | None:
    """Prove that two nodes had status 200 at the same moment, or return ``None``.

    An answer was true at some unknown moment while its look ran. So a node had the status all the
    time between two such answers only if nothing else was seen in between; and two nodes had it at
    the same time only if an answer of one lies between two successive ones of the other.

    :param one: samples of a node.
    :param other: those of another one.
    """
    for first, second in ((one, other), (other, one)):
        for earlier, later in zip(first.samples, first.samples[1:], strict=False):
            if (earlier.seen, later.seen) != (200, 200):
                continue
            for sample in second.samples:
                if sample.seen == 200 and earlier.ended < sample.begun < sample.ended < later.begun:
                    return f"{earlier} and {later} of one, {sample} of the other"
    return None


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
        client = self._sockets.enter_context(socket.create_connection((HOST, self.port), 5.0))
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


async def run(*command: str, within: float = 20.0) -> Finished:
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
