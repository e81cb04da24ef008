"""Have the example's writer write through switchovers and a ``kill -9``, and count its rows.

``python -m benchmarks.writing`` needs the packages of the extra ``test``. The cluster has three
nodes, in synchronous mode; the program is ``examples/writer.py`` as it is; its output is shown.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.client import kill_node
from benchmarks.contest import Ground, free_ports, ours
from benchmarks.measure import Plan
from benchmarks.running import run, scratch, stopped_after
from tests.real.asking import sql
from twisted_patroni.client import ClientError, ClientSettings, Login, Replicas
from twisted_patroni.demo import CannotStart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.demo import Node

_BASE_PORT = 21508
_SWITCHOVERS = 10
_PLAN = Plan(loop_wait=1, ttl=20, retry_timeout=3)
#: Seconds between two things that happen.
_CALM = 2.0
_PATIENCE = 120.0
_ROLES = {"leader", "sync_standby", "replica"}
_PROGRAM = Path(__file__).parent.parent / "examples" / "writer.py"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writing", description=__doc__)
    parser.add_argument(
        "--switchovers", type=int, default=_SWITCHOVERS, help=f"default: {_SWITCHOVERS}"
    )
    parser.add_argument(
        "--base-port", type=int, default=_BASE_PORT, help=f"default: {_BASE_PORT}, or above"
    )
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S.%f} --- {text}", flush=True)


async def _synchronous(reactor: Any, replicas: Replicas) -> tuple[str, str]:
    """Return leader and synchronous standby, once all members are well."""
    end = reactor.seconds() + _PATIENCE
    while reactor.seconds() < end:
        with suppress(ClientError):
            cluster = await (await replicas.primary()).cluster()
            names = {member.role: member.name for member in cluster.members}
            states = {member.state for member in cluster.members}
            if set(names) == _ROLES and states <= {"running", "streaming"}:
                return names["leader"], names["sync_standby"]
        await deferLater(reactor, 0.1)
    raise CannotStart(f"not all members are well after {_PATIENCE:g} seconds")


async def _torment(reactor: Any, replicas: Replicas, nodes: dict[str, Node], count: int) -> None:
    """Switch over some times, and kill the leader."""
    await deferLater(reactor, _CALM)
    for number in range(count):
        leader, standby = await _synchronous(reactor, replicas)
        outcome = await (await replicas.primary()).switchover(leader, standby)
        _say(f"switchover {number + 1}: {outcome.text}")
        await deferLater(reactor, _CALM)
    leader, standby = await _synchronous(reactor, replicas)
    _say(f"kill -9: daemon and PostgreSQL of {leader}; {standby} is synchronous")
    began = reactor.seconds()
    kill_node(nodes[leader])
    new = await replicas.wait_for_leader(not_=leader, timeout=_PATIENCE)
    _say(f"{new.name} has the leader key {reactor.seconds() - began:.2f} s after that")
    await deferLater(reactor, _CALM)
    nodes[leader].start()
    await _synchronous(reactor, replicas)
    _say(f"{leader} is back")


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    base_port = next(free_ports(options.base_port, 3))
    with scratch("writing") as directory:
        ground = Ground.prepare(reactor, ours(), directory / "cluster", base_port, _PLAN, 3)
        nodes = {node.name: node for node in ground.cluster.nodes}
        urls = [node.rest_url for node in nodes.values()]
        async with stopped_after(reactor, ground.cluster.stop):
            await ground.start()
            settings = ClientSettings(login=Login(*ground.login()), timeout=30.0)
            async with Replicas(reactor, urls, settings) as replicas:
                await (await replicas.primary()).patch_config({"synchronous_mode": True})
                await _synchronous(reactor, replicas)
                known = conninfo_to_dict(ground.cluster.nodes[0].conninfo)
                identity = {f"PG{key.upper()}": str(known[key]) for key in ("user", "passfile")}
                command = (sys.executable, str(_PROGRAM), *urls, "--pause", "0.002")
                environ = {**os.environ, **identity, "PGDATABASE": str(known["dbname"])}
                writer = subprocess.Popen(command, env=environ)
                try:
                    await _torment(reactor, replicas, nodes, options.switchovers)
                finally:
                    writer.send_signal(signal.SIGINT)
                    status = await deferToThread(writer.wait, _PATIENCE)
                _say(f"the writer has ended with status {status}")
                for name, node in nodes.items():
                    ((rows,),) = await sql(node.conninfo, "SELECT count(*) FROM written_rows")
                    _say(f"{name} has {rows} rows")


def main(arguments: Sequence[str]) -> None:
    """Run it.

    :param arguments: the command line.
    """
    run(_main, _options(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
