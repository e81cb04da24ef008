"""The command as a script has it: a process on a pipe."""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.web.server import Site

from tests.event_nodes import member
from tests.processcase import Child, ProcessCase
from tests.scratch import free_port
from tests.test_client_endpoint_strings import Pages

reactor = cast("Any", global_reactor)


class CommandTests(ProcessCase):
    """A node that has no events, and the command."""

    timeout = 60

    def setUp(self) -> None:
        """Serve a node on loopback."""
        super().setUp()
        self.node = Pages()
        self.node.pages["/primary"] = self.node.pages["/replica"] = (200, {})
        port = reactor.listenTCP(0, Site(self.node), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"
        self.lead("a")

    def lead(self, name: str) -> None:
        """Let a member lead."""
        listed = [
            member(each, role, port=port, api_url=f"{self.url}/patroni")
            for each, port in (("a", 5001), ("b", 5002), ("c", 5003))
            for role in ("leader" if each == name else "replica",)
        ]
        self.node.pages["/cluster"] = (200, {"members": listed})

    def endpoint(self, *words: str) -> Child:
        """Start the command."""
        return self.begin("endpoint", *words)

    async def printed(self, *words: str) -> str:
        """Run the command to its good end and return what it has printed."""
        child = self.endpoint(*words)
        self.assertEqual((await child.ended, child.err), (0, ""))
        return child.out

    async def test_once(self) -> None:
        """The primary is a line, replicas are several; dead hosts do not matter."""
        self.assertEqual(await self.printed(self.url), "127.0.0.1:5001\n")
        nobody = f"http://127.0.0.1:{free_port()}"
        out = await self.printed(nobody, self.url, "--target", "replica")
        self.assertEqual(out, "127.0.0.1:5002\n127.0.0.1:5003\n")

    async def test_shapes(self) -> None:
        """It is JSON or a connection string, if that is asked for."""
        out = await self.printed(self.url, "--json")
        self.assertEqual(json.loads(out)["members"][0]["port"], 5001)
        out = await self.printed(self.url, "--conninfo")
        self.assertEqual(out, "host=127.0.0.1 port=5001 target_session_attrs=read-write\n")

    async def test_none(self) -> None:
        """If there is none in time it is one line, and exit status 1."""
        self.node.pages["/primary"] = (503, {})
        # Long enough for a busy machine to have asked once.
        child = self.endpoint(self.url, "--timeout", "2")
        self.assertEqual(await child.ended, 1)
        line = (
            "twisted-patroni endpoint: no primary can be connected to:"
            " a (127.0.0.1:5001) says that it is no primary to connect to now\n"
        )
        self.assertEqual((child.out, child.err), ("", line))

    async def test_unusable(self) -> None:
        """Options that cannot be right are one line, and exit status 2."""
        child = self.endpoint("x")
        self.assertEqual(await child.ended, 2)
        line = "twisted-patroni endpoint: 'x' is not a URL like http://HOST:PORT\n"
        self.assertEqual((child.out, child.err), ("", line))
        child = self.endpoint(self.url, "--cacert", "/nowhere")
        self.assertEqual(await child.ended, 2)
        self.assertIn("cannot read /nowhere", child.err)

    async def test_follow(self) -> None:
        """Each change is a line, at once; Ctrl-C is a good end."""
        child = self.endpoint(self.url, "--follow")
        await child.until("127.0.0.1:5001\n")
        self.lead("b")
        await child.until("127.0.0.1:5002\n")
        self.process.signalProcess("INT")
        self.assertEqual((await child.ended, child.err), (0, ""))
        self.assertEqual(child.out, "127.0.0.1:5001\n127.0.0.1:5002\n")

    async def test_other_signals(self) -> None:
        """So are SIGTERM and SIGHUP."""
        for name in ("TERM", "HUP"):
            child = self.endpoint(self.url, "--follow", "--target", "any")
            await child.until("127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003\n")
            self.process.signalProcess(name)
            self.assertEqual((await child.ended, child.err), (0, ""))

    async def test_reader_gone(self) -> None:
        """When nobody reads any more it ends, without waiting for the next change."""
        child = self.endpoint(self.url, "--follow")
        await child.until("\n")
        self.process.closeChildFD(1)
        self.assertEqual((await child.ended, child.err), (0, ""))

    async def test_interrupted(self) -> None:
        """Ended before there is anything to print it is no success."""
        self.node.pages["/primary"] = (503, {})
        asked: Deferred[None] = Deferred()
        self.node.when_asked = asked
        child = self.endpoint(self.url, "--timeout", "60")
        await asked
        self.process.signalProcess("TERM")
        self.assertEqual((await child.ended, child.out, child.err), (143, "", ""))

    async def test_nobody(self) -> None:
        """If no node answers at the start, following ends, too."""
        nobody = f"http://127.0.0.1:{free_port()}"
        child = self.endpoint(nobody, "--follow", "--timeout", "0.5")
        self.assertEqual(await child.ended, 1)
        self.assertEqual((child.out, child.err.count("\n")), ("", 1))
        self.assertIn(f"no node can be asked: {nobody}", child.err)
