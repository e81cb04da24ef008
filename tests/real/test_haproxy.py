"""A real HAProxy in front of a real cluster: its checks find the primary and the replicas."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING
from unittest import SkipTest

from attrs import define, field
from twisted.internet.threads import deferToThread

from tests.real.asking import eventually, sql
from tests.real.harness import RealClusterTests, free_ports, scratch_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from twisted_patroni.demo import Node

HEAD = """\
global
    stats socket {stats} level user
defaults
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    timeout check 2s
    default-server inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
"""
#: How each proxy asks. The first is what one gets by naming no method and no path.
CHECKS: Mapping[str, Sequence[str]] = {
    "bare": ("option httpchk",),
    "options": ("option httpchk OPTIONS /primary", "http-check expect status 200"),
    "lag": ("option httpchk GET /replica?lag=1MB", "http-check expect status 200"),
    "head": ("option httpchk", "http-check send meth HEAD uri /replica"),
    "http11": (
        "option httpchk",
        "http-check connect",
        "http-check send meth GET uri /primary ver HTTP/1.1 hdr Host cluster",
        "http-check expect status 200",
    ),
}
PRIMARY = ("bare", "options", "http11")
UP, DOWN = ("UP", "L7OK", "200"), ("DOWN", "L7STS", "503")


@define(eq=False)
class HAProxy:
    """HAProxy with one proxy for each way of asking. :meth:`stop` it at the end.

    :param nodes: the servers.
    """

    nodes: Sequence[Node]
    ports: dict[str, int] = field(init=False)
    _directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Where it usually is need not be on the path of a user who is not root.
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if program is None:
            raise SkipTest("no haproxy on the PATH")
        first = free_ports(len(CHECKS))
        self.ports = {name: first + number for number, name in enumerate(CHECKS)}
        self._directory = scratch_directory()
        file = self._directory / "haproxy.cfg"
        file.write_text(self._configuration())
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "-db", "-f", file], stdout=log, stderr=log)

    def _configuration(self) -> str:
        lines = [HEAD.format(stats=self._directory / "stats")]
        for name, checks in CHECKS.items():
            lines += [f"listen {name}", f"    bind 127.0.0.1:{self.ports[name]}"]
            lines += [f"    {check}" for check in checks]
            for node in self.nodes:
                place = node.place
                address = f"127.0.0.1:{place.postgres_port}"
                lines.append(f"    server {node.name} {address} check port {place.rest_port}")
        return "\n".join([*lines, ""])

    def servers(self) -> set[tuple[str, ...]]:
        """Return what its socket says about each server of each proxy; blocks."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5.0)
            client.connect(str(self._directory / "stats"))
            client.sendall(b"show stat\n")
            with client.makefile() as answer:
                rows = csv.DictReader(answer.read().lstrip("# ").splitlines())
        columns = ("pxname", "svname", "status", "check_status", "check_code")
        return {
            tuple(row[column] for column in columns)
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        }

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory)


class HAProxyTests(RealClusterTests):
    """What load balancers make of the health checks."""

    async def test_switchover(self) -> None:
        """Each way of asking finds the right servers, before and after a switchover."""
        leader, (replica, _) = await self.roles()
        proxy = HAProxy(self.cluster.nodes)
        self.addCleanup(proxy.stop)
        await self.assert_follows(proxy, leader)
        body = {"leader": leader.name, "candidate": replica.name}
        text = f'Successfully switched over to "{replica.name}"'
        await self.answers("POST", leader, "/switchover", body, 200, text)
        await self.assert_follows(proxy, replica)

    async def assert_follows(self, proxy: HAProxy, leader: Node) -> None:
        """Assert that HAProxy finds the leader and the replicas, and leads clients there."""
        expected = {
            (name, node.name, *(UP if (node is leader) == (name in PRIMARY) else DOWN))
            for name in CHECKS
            for node in self.cluster.nodes
        }

        async def agrees() -> bool:
            try:
                return await deferToThread(proxy.servers) == expected
            except OSError:
                return False

        await eventually(f"HAProxy sees that {leader.name} leads", agrees)
        question = "SELECT pg_is_in_recovery(), current_setting('port')::int"
        for name, standby in (("bare", False), ("lag", True)):
            conninfo = f"{leader.conninfo} port={proxy.ports[name]}"
            ((recovering, port),) = await sql(conninfo, question)
            self.assertIs(recovering, standby)
            self.assertEqual(port == leader.place.postgres_port, not standby)
