"""The cluster as a whole: writes its files, starts its nodes, waits for them, stops them."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool

from twisted_patroni._privileges import Account, NoUnprivilegedAccount, unprivileged_account
from twisted_patroni.demo import checks
from twisted_patroni.demo.certificates import ClientPolicy, issue
from twisted_patroni.demo.layout import (
    AUTHORITY,
    CLIENT,
    HOST,
    SUPERUSER,
    CannotStart,
    Keys,
    Secrets,
    merged,
    node_config,
    places,
    raft_section,
)
from twisted_patroni.demo.node import Node
from twisted_patroni.demo.record import Record, recall, remember, write_private, write_yaml
from twisted_patroni.demo.views import View, Views, changes, is_ready, json_getter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

POLL = 0.5
"""Seconds between two looks at the nodes while they start."""


class IClusterReactor(IReactorProcess, IReactorTime, IReactorTCP, IReactorPluggableNameResolver):
    """What a cluster needs of the reactor."""


def default_daemon() -> tuple[str, ...]:
    """Return the command of this package's daemon, without the configuration file.

    :raise CannotStart: if ``twistd`` is not installed.
    """
    return (checks.script("twistd"), "-n", "--pidfile=", "patroni", "--config")


def _silent(line: str) -> None:
    """Say nothing."""


class Cluster:
    """A PostgreSQL cluster on loopback, one daemon per node.

    Nothing is touched before :meth:`start`. A directory that was used before gives the same
    cluster again, with its data.

    :param reactor: runs the processes, the clock and the requests.
    :param directory: where everything is kept.
    :param nodes: how many nodes.
    :param base_port: the REST port of node 1; the other ports follow from it.
    :param bin_dir: PostgreSQL's programs; by default those of the installed wheel.
    :param dcs: the DCS section of the configuration, as ``{"etcd3": {"hosts": "..."}}``; by default
        the embedded raft.
    :param daemon: the daemon's command, to which the configuration file is added; by default
        this package's.
    :param config_overrides: merged into each node's configuration.
    :param tls: let the REST APIs speak TLS, with certificates made for this directory.
    """

    def __init__(
        self,
        reactor: IClusterReactor,
        directory: Path,
        nodes: int = 3,
        *,
        base_port: int = 8008,
        bin_dir: Path | None = None,
        dcs: Mapping[str, Any] | None = None,
        daemon: Sequence[str] | None = None,
        config_overrides: Mapping[str, Any] | None = None,
        tls: bool = False,
    ) -> None:
        checks.check_numbers(nodes, base_port)
        self._reactor = reactor
        self._daemon = default_daemon() if daemon is None else tuple(daemon)
        self._dcs = dcs
        self._overrides = {} if config_overrides is None else config_overrides
        self._hurried = False
        self._started = False
        self.tls = tls
        self.directory = directory.absolute()
        self.bin_dir = checks.find_bin_dir(bin_dir)
        self.places = places(self.directory, nodes, base_port, tls=tls)
        pool = HTTPConnectionPool(reactor, persistent=False)
        keys = self.keys
        policy = ClientPolicy(
            keys.certificate(AUTHORITY), (keys.certificate(CLIENT), keys.key(CLIENT))
        )
        self._get = json_getter(reactor, Agent(reactor, policy, connectTimeout=1.0, pool=pool))
        self.nodes = tuple(Node(reactor, place, self._daemon) for place in self.places)

    @property
    def keys(self) -> Keys:
        """The files for TLS; without TLS there are none."""
        return self.places[0].keys

    def prepare(self) -> None:
        """Check that the nodes can start, and write their files; starts nothing.

        :raise CannotStart: if they cannot; the text is one line that says why.
        """
        dcs_name = "raft" if self._dcs is None else next(iter(self._dcs))
        checks.check_extra(dcs_name)
        wanted = Record(len(self.nodes), self.places[0].base_port, dcs_name, Secrets(), self.tls)
        record = recall(self.directory) or wanted
        if record != evolve(wanted, known=record.known):
            raise CannotStart(
                f"{self.directory} holds a cluster of {record}: start it like that, or give"
                " another directory"
            )
        checks.check_strays(self.nodes)
        for place in self.places:
            checks.check_ports(place)
            checks.check_version(self.bin_dir, place.data)
        checks.make_directory(self.directory)
        self._write_files(record)

    def _write_files(self, record: Record) -> None:
        try:
            account = unprivileged_account(self.directory.parent)
            remember(self.directory, record)
            login = f"{HOST}:*:*:{SUPERUSER}:{record.known.superuser}\n"
            write_private(self.places[0].passfile, login)
            account.give(self.directory)
            if self.tls:
                self._write_keys(account)
            for node in self.nodes:
                self._write_node(node, record, account)
        except NoUnprivilegedAccount as error:
            raise CannotStart(str(error)) from None
        except OSError as error:
            raise CannotStart(f"cannot write {error.filename}: {error.strerror}") from None

    def _write_keys(self, account: Account) -> None:
        keys = self.keys
        keys.directory.mkdir(mode=0o700, exist_ok=True)
        now = datetime.fromtimestamp(self._reactor.seconds(), UTC)
        issue(keys, [place.name for place in self.places], now)
        account.give(keys.directory)
        for name in (AUTHORITY, CLIENT, *(place.name for place in self.places)):
            account.give(keys.certificate(name))
            account.give(keys.key(name))

    def _write_node(self, node: Node, record: Record, account: Account) -> None:
        place = node.place
        place.home.mkdir(mode=0o700, exist_ok=True)
        dcs = self._dcs or raft_section(place, self.places, record.known.raft)
        config = node_config(place, self.bin_dir, record.known, dcs)
        write_yaml(place.config_file, merged(config, self._overrides))
        place.log_file.touch(mode=0o600)
        for path in (place.home, place.config_file, place.log_file):
            account.give(path)
        node.prefix = account.prefix

    async def start(self) -> None:
        """Check, write the files and start all nodes; the nodes go on while this returns.

        :raise CannotStart: if they cannot start; the text is one line that says why.
        """
        self._hurried = False
        self.prepare()
        self._started = True
        for node in self.nodes:
            node.start()

    async def views(self) -> Views:
        """Ask each node how it is."""
        return {node.name: await self._view(node) for node in self.nodes}

    async def _view(self, node: Node) -> View | None:
        document = await self._get(f"{node.rest_url}/patroni")
        return View.of(document) if isinstance(document, dict) else None

    async def leader(self) -> Node | None:
        """Return the node that is a running primary, or ``None`` if there is none, or several."""
        views = await self.views()
        primaries = [node for node in self.nodes if (view := views[node.name]) and view.is_primary]
        return primaries[0] if len(primaries) == 1 else None

    async def ready(self, timeout: float = 60.0, report: Callable[[str], None] = _silent) -> None:
        """Wait until one node is primary and each other one streams from it.

        :param timeout: how many seconds to wait.
        :param report: is given a line whenever a node has changed.
        :raise CannotStart: if that takes longer, or a daemon ends.
        """
        deadline = self._reactor.seconds() + timeout
        seen: Views = dict.fromkeys((node.name for node in self.nodes), None)
        while True:
            views = await self.views()
            for line in changes(seen, views):
                report(line)
            seen = views
            if is_ready(views):
                return
            for node in self.nodes:
                if not node.is_running:
                    raise CannotStart(f"{node.name} has ended: see {node.place.log_file}")
            if self._reactor.seconds() >= deadline:
                raise CannotStart(
                    f"the cluster is not ready after {timeout:.0f} seconds: see"
                    f" {self.directory}/pg*/{self.places[0].log_file.name}"
                )
            await deferLater(self._reactor, POLL)

    async def stop(self, grace: float = 30.0) -> None:
        """Stop all nodes, the primary last, and whatever PostgreSQL they leave behind.

        A cluster that was not started here is left alone.

        :param grace: how many seconds the daemons have before they are killed.
        """
        if not self._started:
            return
        deadline = self._reactor.seconds() + grace
        standbys = [node for node in self.nodes if node.is_standby]
        await self._stop_daemons(standbys, deadline)
        await self._stop_daemons([node for node in self.nodes if node not in standbys], deadline)
        for node in self.nodes:
            if not await self._end(node.stray_pid, ("TERM", "KILL"), deadline):
                raise RuntimeError(f"cannot stop {node.name}")
            if not await self._end(node.postmaster_pid, ("INT", "QUIT", "KILL"), deadline):
                raise RuntimeError(f"cannot stop PostgreSQL of {node.name}")

    def hurry(self) -> None:
        """Let a :meth:`stop` under way wait no longer; PostgreSQL recovers at the next start."""
        self._hurried = True
        for node in self.nodes:
            if node.is_running:
                node.stop("KILL")

    async def _stop_daemons(self, nodes: Iterable[Node], deadline: float) -> None:
        running = [node for node in nodes if node.is_running]
        for node in running:
            node.stop("KILL" if self._hurried else "TERM")
        for node in running:
            left = max(0.1, deadline - self._reactor.seconds())
            try:
                await node.exited.addTimeout(left, self._reactor)
            except DeferredTimeout:
                await node.stop("KILL")

    async def _end(
        self, find: Callable[[], int | None], signals: Sequence[str], deadline: float
    ) -> bool:
        """End a process that is not our child, with ever harder signals."""
        for name in signals:
            pid = find()
            if pid is None:
                return True
            if self._hurried and name == signals[0]:
                continue
            try:
                os.kill(pid, signal.Signals[f"SIG{name}"])
            except ProcessLookupError:
                return True
            limit = max(deadline, self._reactor.seconds() + 5.0)
            while find() == pid and self._reactor.seconds() < limit:
                if self._hurried and name == signals[0]:
                    break
                await deferLater(self._reactor, 0.1)
        return find() is None
