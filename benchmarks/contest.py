"""The contestants: like clusters of one machine, one for each daemon."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from benchmarks.clients import HOST
from benchmarks.measure import Plan, Subject
from benchmarks.watch import HaLog
from twisted_patroni.demo import CannotStart, Cluster
from twisted_patroni.demo.cluster import default_daemon
from twisted_patroni.demo.layout import REST_USER, places
from twisted_patroni.demo.record import recall

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twisted_patroni.demo import Node
    from twisted_patroni.demo.cluster import IClusterReactor

UPSTREAM = "Patroni"
OURS = "twisted_patroni"
_READY = 90.0
_PORTS_APART = 10
_SWITCHING = (
    "import sys; sys.setswitchinterval({interval}); sys.argv[0] = 'twistd';"
    " from twisted.scripts.twistd import run; run()"
)


@frozen
class Contestant:
    """A daemon that takes part.

    :param name: what it is called in the report.
    :param daemon: its command, to which the configuration file is added.
    :param keeps_alive: its API keeps connections alive.
    """

    name: str
    daemon: tuple[str, ...]
    keeps_alive: bool


def contestants(switch_interval: float | None) -> tuple[Contestant, ...]:
    """Return who takes part: upstream, ours, and ours with another switch interval if wanted.

    :param switch_interval: that interval in seconds.
    """
    ours = default_daemon()
    taking_part = [
        Contestant(UPSTREAM, (sys.executable, "-m", "patroni"), keeps_alive=False),
        Contestant(OURS, ours, keeps_alive=True),
    ]
    if switch_interval is not None:
        command = (sys.executable, "-c", _SWITCHING.format(interval=switch_interval), *ours[1:])
        name = f"{OURS}, switch interval {1000 * switch_interval:g} ms"
        taking_part.append(Contestant(name, command, keeps_alive=True))
    return tuple(taking_part)


def ours() -> Contestant:
    """Return our daemon, for contests in which nobody else can take part."""
    (found,) = (each for each in contestants(None) if each.name == OURS)
    return found


def free_ports(start: int, nodes: int) -> Iterator[int]:
    """Find base ports for clusters.

    :param start: where to begin.
    :param nodes: how many nodes each cluster has.
    """
    for base in range(start, start + 100 * _PORTS_APART, _PORTS_APART):
        wanted = [
            port
            for place in places(Path(), nodes, base)
            for port in (place.rest_port, place.postgres_port, place.raft_port)
        ]
        if all(_free(port) for port in wanted):
            yield base
    raise CannotStart(f"no free ports from {start} on")


def _free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


@frozen
class Ground:
    """Where a contestant runs.

    :param contestant: who.
    :param cluster: its cluster.
    :param hold: while this file exists, PostgreSQL does not begin to stop.
    :param plan: how much is measured.
    """

    contestant: Contestant
    cluster: Cluster
    hold: Path
    plan: Plan

    @classmethod
    def prepare(
        cls,
        reactor: IClusterReactor,
        contestant: Contestant,
        directory: Path,
        base_port: int,
        plan: Plan,
        nodes: int = 1,
        tls: bool = False,
        dcs: Mapping[str, Any] | None = None,
    ) -> Ground:
        """Lay the ground; nothing is started.

        :param reactor: runs the cluster.
        :param contestant: who.
        :param directory: where.
        :param base_port: the API's port of the first node.
        :param plan: how much is measured.
        :param nodes: how many nodes.
        :param tls: let the APIs speak TLS.
        :param dcs: the DCS section of the configuration; by default the embedded raft.
        """
        hold = directory.with_suffix(".hold")
        cluster = Cluster(
            reactor,
            directory,
            nodes,
            base_port=base_port,
            daemon=contestant.daemon,
            config_overrides=_overrides(hold, plan),
            tls=tls,
            dcs=dcs,
        )
        return cls(contestant, cluster, hold, plan)

    async def start(self) -> None:
        """Start the cluster and wait until it is ready."""
        await self.cluster.start()
        await self.cluster.ready(_READY)

    def subject(self, node: Node) -> Subject:
        """Return a node's daemon, to be measured.

        :param node: the node.
        """
        assert node.pid is not None
        return Subject(
            name=self.contestant.name,
            keeps_alive=self.contestant.keeps_alive,
            pid=node.pid,
            port=node.place.rest_port,
            conninfo=node.conninfo,
            log=HaLog(node.place.log_file, self.plan.loop_wait),
            plan=self.plan,
        )

    def login(self) -> tuple[str, str]:
        """Return user and password of the API."""
        record = recall(self.cluster.directory)
        assert record is not None
        return REST_USER, record.known.rest


def _overrides(hold: Path, plan: Plan) -> dict[str, Any]:
    return {
        "bootstrap": {
            "dcs": {
                "ttl": plan.ttl,
                "loop_wait": plan.loop_wait,
                "retry_timeout": plan.retry_timeout,
            }
        },
        "postgresql": {
            "before_stop": f"sh -c 'while test -e {hold}; do sleep 0.2; done'",
            "parameters": {"fsync": "off"},
        },
    }
