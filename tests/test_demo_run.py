"""The demonstration's processes, with a stub in the daemon's place; tests/real has the true one."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import yaml
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.scratch import scratch_directory
from twisted_patroni.__main__ import build_parser
from twisted_patroni.demo import CannotStart, Cluster, Node, Place
from twisted_patroni.demo.checks import PROGRAMS, HostPort
from twisted_patroni.demo.command import Request, demo, introduction, request_from
from twisted_patroni.demo.layout import MAX_BASE_PORT, MIN_BASE_PORT, Secrets
from twisted_patroni.demo.record import Record, recall

STUB = """\
import json, os, ssl, sys, yaml
from http.server import BaseHTTPRequestHandler, HTTPServer
config = yaml.safe_load(open(sys.argv[1]))
first = config["name"] == "pg1"
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        document = {"state": "running", "role": "primary" if first else "replica"}
        document["replication_state"] = "streaming"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())
print("PATRONI" in "".join(os.environ), flush=True)
api = config["restapi"]
server = HTTPServer(("127.0.0.1", int(api["listen"].split(":")[1])), Handler)
if "certfile" in api:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=api["cafile"])
    context.load_cert_chain(api["certfile"], api["keyfile"])
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def reactor() -> Any:
    """Return the reactor the test runs in."""
    return cast("Any", global_reactor)


def free_base_port(nodes: int) -> int:
    """Return a base port whose ports for so many nodes nobody uses at the moment."""
    for base_port in range(MIN_BASE_PORT + os.getpid() % 20000, MAX_BASE_PORT, 37):
        wanted = [base_port + n + o for n in range(nodes) for o in (0, 1000, -2576)]
        try:
            for port in wanted:
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return base_port
    raise AssertionError("no free ports")


class NodeTests(TestCase):
    """One daemon as a child."""

    timeout = 30

    def node(self, script: str) -> Node:
        """Make a node whose daemon is a shell script."""
        place = Place(1, scratch_directory(self), 8008)
        place.home.mkdir(parents=True)
        node = Node(reactor(), place, ("sh", "-c", script, "daemon"))

        async def end() -> None:
            await node.stop("KILL")

        self.addCleanup(lambda: Deferred.fromCoroutine(end()))
        return node

    async def said_ready(self, node: Node) -> None:
        """Wait until the daemon has written something; the test's time limit ends this."""
        while not node.place.log_file.read_text():
            await deferLater(reactor(), 0.02)

    async def test_exit_code(self) -> None:
        """Everyone who asks learns the exit code, before the end and after it."""
        node = self.node("exit 3")
        node.start()
        one, two = node.exited, node.exited
        self.assertEqual((await one, await two, await node.exited), (3, 3, 3))
        self.assertEqual((node.pid, node.is_running), (None, False))

    async def test_log(self) -> None:
        """Output goes to the node's log, after what earlier starts wrote."""
        node = self.node('echo "to stdout"; echo "$1 to stderr" >&2')
        for _ in range(2):
            node.start()
            self.assertEqual(await node.exited, 0)
        written = node.place.log_file.read_text()
        self.assertEqual(written.count("to stdout\n"), 2)
        self.assertEqual(written.count("to stderr\n"), 2)

    async def test_signal(self) -> None:
        """A daemon ended by a signal gives the signal's number, negative; it can start again."""
        node = self.node("echo ready; exec sleep 60")
        for name, code in (("TERM", -signal.SIGTERM), ("KILL", -signal.SIGKILL)):
            node.start()
            await self.said_ready(node)
            self.assertRaises(RuntimeError, node.start)
            self.assertEqual(await node.stop(name), code)
            node.place.log_file.unlink()
        self.assertEqual(await node.stop(), -signal.SIGKILL)

    async def test_own_session(self) -> None:
        """The terminal's Ctrl-C does not reach the daemon: it is in a session of its own."""
        node = self.node("echo ready; exec sleep 60")
        node.start()
        await self.said_ready(node)
        pid = node.pid
        assert pid is not None
        self.assertEqual(os.getsid(pid), pid)

    def test_never_started(self) -> None:
        """A node that was never started has no exit code, and stopping it is nothing."""
        node = self.node("true")
        self.assertRaises(RuntimeError, lambda: node.exited)
        self.successResultOf(node.stop())


class ClusterTests(TestCase):
    """A cluster of stubs."""

    timeout = 60

    def setUp(self) -> None:
        """Lay out programs, the stub and a directory."""
        self.directory = scratch_directory(self)
        self.bin_dir = self.directory / "bin"
        self.bin_dir.mkdir()
        for program in PROGRAMS:
            (self.bin_dir / program).write_text("#!/bin/sh\n")
            (self.bin_dir / program).chmod(0o755)
        stub = self.directory / "stub.py"
        stub.write_text(STUB)
        self.daemon: tuple[str, ...] = (sys.executable, str(stub))
        self.base_port = free_base_port(2)
        self.home = self.directory / "cluster"

    def cluster(self, nodes: int = 2, **more: Any) -> Cluster:
        """Make a cluster that is stopped at the end of the test."""
        given: dict[str, Any] = {
            "base_port": self.base_port,
            "bin_dir": self.bin_dir,
            "daemon": self.daemon,
        }
        cluster = Cluster(reactor(), self.home, nodes, **(given | more))
        self.addCleanup(lambda: Deferred.fromCoroutine(cluster.stop(2.0)))
        return cluster

    def request(self, **more: Any) -> Request:
        """Return what a user asks of the command."""
        given: dict[str, Any] = {"nodes": 2, "base_port": self.base_port, "bin_dir": self.bin_dir}
        return Request(self.home, daemon=self.daemon, **(given | more))

    def test_files(self) -> None:
        """All files are for the owner only, and name the ports and overrides asked for."""
        cluster = self.cluster(config_overrides={"bootstrap": {"dcs": {"ttl": 33}}})
        cluster.prepare()
        config = yaml.safe_load(cluster.nodes[1].config_file.read_text())
        self.assertEqual(config["name"], "pg2")
        self.assertEqual(config["bootstrap"]["dcs"]["ttl"], 33)
        self.assertEqual(config["bootstrap"]["dcs"]["loop_wait"], 5)
        self.assertEqual(config["raft"]["self_addr"], f"127.0.0.1:{self.base_port + 1001}")
        for path in (cluster.nodes[0].config_file, cluster.nodes[0].place.passfile):
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_again(self) -> None:
        """A second start finds the same secrets; another shape or DCS is refused."""
        self.cluster().prepare()
        before = recall(self.home)
        self.cluster().prepare()
        self.assertEqual(recall(self.home), before)
        etcd = {"etcd3": {"hosts": "127.0.0.1:2379"}}
        for other in (self.cluster(1), self.cluster(dcs=etcd), self.cluster(tls=True)):
            self.assertRaisesRegex(CannotStart, "2 nodes with .* without TLS:", other.prepare)

    async def test_life(self) -> None:
        """A cluster starts, becomes ready, says who leads, and leaves nothing behind."""
        self.patch(os, "environ", {**os.environ, "PATRONI_NAME": "of another cluster"})
        cluster = self.cluster()
        await cluster.start()
        said: list[str] = []
        await cluster.ready(30.0, said.append)
        self.assertEqual(sorted(said), ["pg1: primary, streaming", "pg2: replica, streaming"])
        self.assertIs(await cluster.leader(), cluster.nodes[0])
        self.assertIn("False", cluster.nodes[0].place.log_file.read_text())
        await cluster.stop()
        self.assertEqual([node.pid for node in cluster.nodes], [None, None])
        self.assertIsNone(await cluster.leader())

    async def test_tls(self) -> None:
        """Over TLS the nodes get to see the client's certificate, and ``curl`` can show it, too."""
        cluster = self.cluster(tls=True)
        self.assertIsNone(await cluster.leader())
        await cluster.start()
        await cluster.ready(30.0)
        views = await cluster.views()
        shown = "\n".join(introduction(cluster, views))
        command = next(line for line in shown.splitlines() if "curl" in line)
        told = await getProcessOutput("sh", ("-c", command), os.environ)
        self.assertEqual(json.loads(told)["role"], "primary")
        self.assertIn(f"https://127.0.0.1:{self.base_port + 1}\n", shown)

    async def test_left_running(self) -> None:
        """Daemons that an earlier start left are named with their pids, and left alone."""
        cluster = self.cluster()
        await cluster.start()
        await cluster.ready(30.0)
        pids = f"kill {cluster.nodes[0].pid} {cluster.nodes[1].pid}$"
        other = self.cluster()
        self.assertRaisesRegex(CannotStart, pids, other.prepare)
        await other.stop()
        self.assertTrue(all(node.is_running for node in cluster.nodes))

    async def test_daemon_ends(self) -> None:
        """A daemon that ends while the others start is told at once, with its log."""
        self.daemon = ("false",)
        cluster = self.cluster()
        await cluster.start()
        with self.assertRaisesRegex(CannotStart, "pg1 has ended: see .*patroni.log"):
            await cluster.ready(30.0)

    async def test_too_slow(self) -> None:
        """Waiting ends with the time that was given; stopping in a hurry does not wait."""
        self.daemon = ("sh", "-c", 'trap "" TERM; while :; do sleep 0.1; done', "daemon")
        cluster = self.cluster()
        await cluster.start()
        with self.assertRaisesRegex(CannotStart, "not ready after 0 seconds"):
            await cluster.ready(0.0)
        stopping = Deferred.fromCoroutine(cluster.stop(50.0))
        cluster.hurry()
        await stopping
        self.assertEqual(await cluster.nodes[0].exited, -signal.SIGKILL)

    async def test_command(self) -> None:
        """The command shows what there is, reports a killed daemon, and ends at a signal."""
        out = io.StringIO()
        running = Deferred.fromCoroutine(demo(reactor(), self.request(), out))
        await self.wait_for(out, "Ctrl-C stops the cluster")
        shown = out.getvalue()
        for expected in (
            f"http://127.0.0.1:{self.base_port + 1}",
            f"port={self.base_port - 2576} ",
            f"curl -s http://127.0.0.1:{self.base_port}/cluster",
            "switchover --force",
            "target_session_attrs=read-write",
        ):
            self.assertIn(expected, shown)
        pid = int(shown.split("pg2: process ")[1].split(",")[0])
        os.kill(pid, signal.SIGKILL)
        await self.wait_for(out, "pg2: the daemon was killed by signal 9. Start it again with:")
        await self.wait_for(out, "pg2: does not answer")
        os.kill(os.getpid(), signal.SIGTERM)
        await running
        self.assertIn("Stopped. The same command starts it again", out.getvalue())

    async def wait_for(self, out: io.StringIO, text: str) -> None:
        """Wait until a text was written; the test's time limit ends this."""
        while text not in out.getvalue():
            await deferLater(reactor(), 0.05)

    async def test_command_refuses(self) -> None:
        """What cannot work is refused before anything is written."""
        for request in (
            self.request(nodes=0),
            self.request(base_port=1),
            self.request(bin_dir=Path("/")),
            self.request(etcd=HostPort("127.0.0.1", 1)),
        ):
            with self.assertRaises(CannotStart):
                await demo(reactor(), request, io.StringIO())
        self.assertFalse(self.home.exists())


class CommandLineTests(SynchronousTestCase):
    """The words after ``twisted-patroni``."""

    def test_defaults(self) -> None:
        """Without options it is three nodes from 8008, or what the directory remembers."""
        asked = request_from(build_parser().parse_args(["demo"]))
        self.assertEqual(asked, Request(Path("demo-cluster").absolute()))
        self.assertEqual(asked.completed(None), (3, 8008, False))
        for tls in (False, True):
            record = Record(5, 9000, "raft", Secrets(), tls)
            self.assertEqual(asked.completed(record), (5, 9000, tls))

    def test_options(self) -> None:
        """Each option arrives in the request."""
        words = "demo --nodes 2 --directory /d --base-port 9000 --bin-dir /b --etcd h:1 --tls"
        self.assertEqual(
            request_from(build_parser().parse_args(words.split())),
            Request(Path("/d"), 2, 9000, Path("/b"), HostPort("h", 1), tls=True),
        )

    def test_one_line(self) -> None:
        """A mistake gives exit code 1 and one line, without traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "twisted_patroni", "demo", "--nodes", "12"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(
            done.stderr,
            "twisted-patroni demo: the number of nodes must be from 1 to 9, not 12\n",
        )
