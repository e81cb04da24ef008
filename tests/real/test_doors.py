"""Further listeners of a real daemon: for health checks, for this machine, behind a balancer."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.real.asking import eventually
from tests.real.balancing import UP, HAProxy
from tests.real.faults import step
from tests.real.harness import free_ports, node_file, rewrite_node_file
from tests.real.onenode import OneNode
from tests.real.test_daemon import listening, sockets
from tests.real.visiting import CUT, FORBIDDEN, HARMLESS, LET_IN, NO_PASSWORD, Visitor, trusting
from tests.real.watching import REFUSED
from twisted_patroni.demo.cluster import Cluster, default_daemon
from twisted_patroni.demo.layout import AUTHORITY, CLIENT, HOST

#: An address in the allowlist, and one that is not.
FRIEND, STRANGER = "127.0.0.31", "127.0.0.32"
OVERRIDES = {
    "restapi": {"verify_client": "required", "allowlist": [HOST, FRIEND]},
    "log": {"loggers": {"patroni.api": "DEBUG"}},
}
PLAIN = {"tls": False, "verify_client": "none"}


@frozen
class LocalVisitor(Visitor):
    """A client of a Unix socket.

    :param path: the socket's.
    """

    path: str = ""

    def connect(self) -> http.client.HTTPConnection:
        """Return an open connection."""
        connection = http.client.HTTPConnection(HOST)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30.0)
        connection.sock.connect(self.path)
        return connection


class DoorTests(OneNode):
    """One node over TLS whose clients must have certificates, but not at every door."""

    tls = True

    async def test_doors(self) -> None:
        """Each door has rules of its own, which a reload may change without touching others."""
        cluster = self.prepared(OVERRIDES)
        node, log = self.node, self.node.place.log_file
        self.visitor = Visitor(node.place.rest_port, trusting(node.place.keys), self.api.login)
        rewrite_node_file(node, {"restapi": {"endpoints": self.doors()}})
        with step("the main listener", log):
            node.start()
            await cluster.ready()
            self.assertEqual((await self.visitor.visit()).seen, 200)
            stranger = evolve(self.visitor, context=trusting(node.place.keys, None))
            self.assertEqual((await stranger.visit()).seen, CUT)
        with step("health checks without TLS", log):
            await self.assert_health()
        with step("a Unix socket", log):
            await self.assert_local()
        with step("behind HAProxy", log):
            await self.assert_proxied()
        with step("other doors", log):
            await self.assert_reloaded()
        self.assertNotIn("Traceback", self.log())
        self.assertEqual(await node.stop().addTimeout(60.0, reactor), 0)
        self.assertFalse(Path(self.socket).exists())

    def doors(self) -> list[dict[str, Any]]:
        """Choose ports for further listeners, and return their list."""
        self.health, self.proxied, self.sealed = range(first := free_ports(3), first + 3)
        self.socket = str(self.node.place.home / "api")
        at_loopback = f":interface={HOST}"
        return [
            {"endpoint": f"tcp:{self.health}{at_loopback}", "serves": "health", "tls": False},
            {"endpoint": f"unix:{self.socket}", "serves": "all", **PLAIN},
            {"endpoint": f"haproxy:tcp:{self.proxied}{at_loopback}", "serves": "all", **PLAIN},
            {"endpoint": f"haproxy:tcp:{self.sealed}{at_loopback}", "serves": "read"},
        ]

    async def assert_health(self) -> None:
        """Assert that the plain door answers health checks, and nothing else."""
        visitor = Visitor(self.health, login=self.api.login)
        for path, seen in (("/primary", 200), ("/replica", 503), ("/liveness", 200)):
            self.assertEqual((await visitor.visit("GET", path)).seen, seen, path)
        for method, path in (("GET", "/patroni"), ("GET", "/config"), HARMLESS):
            visit = await visitor.visit(method, path)
            answer = (FORBIDDEN, "this listener answers health checks only")
            self.assertEqual((visit.seen, visit.text), answer, path)
        encrypted = evolve(visitor, context=self.visitor.context)
        self.assertEqual((await encrypted.visit()).seen, CUT)

    async def assert_local(self) -> None:
        """Assert that the Unix socket lets those in who know the password."""
        visitor = LocalVisitor(0, path=self.socket)
        known = evolve(visitor, login=self.api.login)
        self.assertEqual((await visitor.visit("GET", "/patroni")).seen, 200)
        self.assertEqual((await visitor.visit(*HARMLESS)).seen, NO_PASSWORD)
        self.assertEqual((await known.visit(*HARMLESS)).seen, LET_IN)
        await self.audited(f"unix:{self.socket}", ("unix", NO_PASSWORD), ("unix", LET_IN))

    async def assert_proxied(self) -> None:
        """Assert that HAProxy's clients count by their own addresses."""
        proxy = await deferToThread(HAProxy, self.proxies())
        self.addCleanup(proxy.stop)
        seen = {(name, "node", *UP) for name in proxy.ports if name != "mute"}
        silent = ("mute", "node", "DOWN", "L7RSP", "")
        await proxy.until("HAProxy finds the node at each door", {*seen, silent})
        for name in ("first", "second"):
            visitor = Visitor(proxy.ports[name], login=self.api.login)
            for source, code in ((FRIEND, LET_IN), (STRANGER, FORBIDDEN)):
                visit = await evolve(visitor, source=source).visit(*HARMLESS)
                self.assertEqual(visit.seen, code, (name, source))
                await self.logged(f'API thread: {source} - - "DELETE /restart HTTP/1.1" {code}')
        twice = ((FRIEND, LET_IN), (STRANGER, FORBIDDEN)) * 2
        await self.audited(f"haproxy:tcp:{self.proxied}:interface={HOST}", *twice)
        through = evolve(self.visitor, port=proxy.ports["sealed"], source=FRIEND)
        self.assertEqual((await through.visit("GET", "/patroni")).seen, 200)
        self.assertEqual((await through.visit(*HARMLESS)).seen, FORBIDDEN)
        stranger = evolve(through, context=trusting(self.node.place.keys, None))
        self.assertEqual((await stranger.visit()).seen, CUT)
        # Who does not say whose connection it is gets no answer.
        self.assertEqual((await evolve(visitor, port=self.proxied).visit()).seen, CUT)

    def proxies(self) -> dict[str, list[str]]:
        """Return HAProxy's configuration: a proxy for each door and kind of header."""
        keys = self.node.place.keys
        both = self.node.place.home / "both.pem"
        both.write_bytes(keys.certificate(CLIENT).read_bytes() + keys.key(CLIENT).read_bytes())
        sealed = f"check-ssl verify required ca-file {keys.certificate(AUTHORITY)} crt {both}"
        check = "option httpchk GET /primary"
        plain, announced = f"server node {HOST}:{self.proxied}", "check check-send-proxy"
        return {
            "first": [check, f"{plain} send-proxy {announced}"],
            "second": [check, f"{plain} send-proxy-v2 {announced}"],
            "sealed": [
                check,
                f"server node {HOST}:{self.sealed} send-proxy-v2 {announced} {sealed}",
            ],
            "health": [check, f"server node {HOST}:{self.health} check"],
            "mute": [check, f"{plain} check"],
        }

    async def audited(self, door: str, *expected: tuple[str, int]) -> None:
        """Wait until the audit log says of a door what is expected; the log is a little late.

        :param door: its name.
        :param expected: addresses and answers.
        """

        async def look() -> bool:
            lines = [line.partition("{")[1:] for line in self.log().splitlines()]
            texts = ["".join(words) for words in lines if '"door": ' in words[1]]
            told = [json.loads(text) for text in texts]
            seen = [(each["address"], each["status"]) for each in told if each["door"] == door]
            return seen == [*expected]

        await eventually(f"the audit log says of {door}: {expected}", look)

    async def assert_reloaded(self) -> None:
        """Assert what becomes of connections and doors when the list of these changes."""
        first, *others = node_file(self.node)["restapi"]["endpoints"]
        visitor, port = Visitor(self.health, login=self.api.login), free_ports(1)
        kept = await deferToThread(visitor.connect)
        self.addCleanup(kept.close)
        self.reload(endpoints=[{**first, "serves": "all", "verify_client": "none"}, *others])
        await self.until_seen(visitor, LET_IN)
        self.assertEqual((await deferToThread(visitor.request, kept)).seen, 200)
        another = {**first, "endpoint": f"tcp:{port}:interface={HOST}"}
        with listening(port):
            self.reload(endpoints=[another, *others])
            await self.logged(f"restapi.endpoints: cannot listen on '{another['endpoint']}'")
            self.assertEqual((await visitor.visit()).seen, 200)
        self.reload()
        await self.until_seen(visitor, REFUSED)
        self.assertEqual((await evolve(visitor, port=port).visit("GET", "/primary")).seen, 200)
        self.assertEqual((await LocalVisitor(0, path=self.socket).visit()).seen, 200)

    async def until_seen(self, visitor: Visitor, seen: int | str) -> None:
        """Wait until a harmless request of a visitor is answered as expected.

        :param visitor: the visitor.
        :param seen: the status, or what is seen without one.
        """

        async def look() -> bool:
            return (await visitor.visit(*HARMLESS)).seen == seen

        await eventually(f"{visitor.port} gives {seen}", look)


class StartTests(OneNode):
    """How doors are there, or are not, when the daemon starts."""

    async def test_activated(self) -> None:
        """A socket that systemd has opened is answered, by nobody but the daemon."""
        port, launcher = free_ports(1), str(Path(__file__).with_name("activated.py"))
        door = {"endpoint": "systemd:domain=INET:name=api", "serves": "health"}
        prepared = self.prepared({"restapi": {"endpoints": [door]}})
        cluster = Cluster(
            reactor,  # type: ignore[arg-type]
            prepared.directory,
            1,
            base_port=self.node.place.base_port,
            bin_dir=prepared.bin_dir,
            daemon=(sys.executable, launcher, str(port), *default_daemon()),
            config_overrides=node_file(self.node),
        )
        visitor = Visitor(port)

        async def is_open() -> bool:
            return await deferToThread(visitor.knock) == ""

        with step("a client that came before the daemon", prepared.nodes[0].place.log_file):
            await cluster.start()
            (node,) = cluster.nodes
            self.addCleanup(node.stop, "KILL")
            await eventually("the socket is there", is_open)
            self.assertIn((await visitor.visit()).seen, (200, 503))
            await cluster.ready()
        self.assertEqual((await visitor.visit("GET", "/primary")).seen, 200)
        self.assertEqual((await visitor.visit("GET", "/patroni")).seen, FORBIDDEN)
        postmaster = node.postmaster_pid()
        assert postmaster is not None and node.pid is not None
        self.assertEqual(sockets(node.pid) & sockets(postmaster), set())
        self.assertEqual(await node.stop().addTimeout(60.0, reactor), 0)
        self.assertEqual((await visitor.visit()).seen, REFUSED)

    async def refusal(self, *doors: dict[str, Any]) -> list[str]:
        """Return what the daemon writes that must not start, about its listeners.

        :param doors: the further listeners.
        """
        self.prepared({"restapi": {"endpoints": list(doors)}})
        self.node.start()
        self.assertEqual(await self.node.exited.addTimeout(60.0, reactor), 1)
        self.assertNotIn("Traceback", self.log())
        self.assertFalse(self.node.place.data.exists())
        return [line for line in self.log().splitlines() if "restapi" in line]

    async def test_wrong(self) -> None:
        """A key or an endpoint that nobody knows ends the start with one line."""
        good = {"endpoint": "tcp:8009", "serves": "health"}
        for wrong, told in (
            ({**good, "server": "all"}, "restapi.endpoints[0]: unknown key 'server'; the keys are"),
            (
                {**good, "endpoint": "carrier:pigeon"},
                "restapi.endpoints: Twisted does not understand 'carrier:pigeon'",
            ),
            (
                {**good, "endpoint": "systemd:domain=INET:name=api"},
                "restapi.endpoints: Twisted does not understand 'systemd:domain=INET:name=api'",
            ),
        ):
            with step(told):
                (line,) = await self.refusal(wrong)
                self.assertEqual(self.log(), f"{line}\n")
                self.assertIn(f"patroni: {told}", line)

    async def test_busy(self) -> None:
        """A port that somebody else has ends the start with one line that names the endpoint."""
        port = free_ports(1)
        endpoint = f"tcp:{port}:interface={HOST}"
        with listening(port):
            (line,) = await self.refusal({"endpoint": endpoint, "serves": "health"})
        self.assertIn(f"CRITICAL: restapi.endpoints: cannot listen on '{endpoint}'", line)
        self.assertIn("Address already in use", line)
