"""The command as a user has it: a process, on a pipe or on a terminal."""

from __future__ import annotations

import contextlib  # a name suppress would mean something to trial
import fcntl
import json
import re
import struct
import termios
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.error import ProcessExitedAlready
from twisted.web.server import Site

from tests.event_nodes import EventNode, member, view
from tests.processcase import Child, ProcessCase
from tests.scratch import free_port

reactor = cast("Any", global_reactor)


class CommandCase(ProcessCase):
    """A node and the command."""

    timeout = 60

    def setUp(self) -> None:
        """Serve a node on loopback."""
        super().setUp()
        self.node = EventNode()
        self.node.greeting = view(member("a", "leader", api_url=None))
        port = reactor.listenTCP(0, Site(self.node), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self.node.cut)
        self.url = f"http://127.0.0.1:{port.getHost().port}"

    def watch(self, *words: str, terminal: bool = False) -> Child:
        """Start the command."""
        return self.begin("watch", *words, terminal=terminal)

    async def signal(self, child: Child, name: str) -> int:
        """Send a signal and return the exit code."""
        with contextlib.suppress(ProcessExitedAlready):
            self.process.signalProcess(name)
        return await child.ended


class LineTests(CommandCase):
    """On a pipe."""

    async def test_lines(self) -> None:
        """Events are lines as soon as they happen; Ctrl-C is the end, without a complaint."""
        child = self.watch(self.url)
        await child.until("members: a (leader, running)\n")
        self.node.say("leader", {"old": "a", "new": "b", "timeline": 7})
        await child.until("2026-11-21 15:30:00 leader: a -> b (timeline 7)\n")
        self.assertEqual(await self.signal(child, "INT"), 0)
        self.assertEqual(child.err, "")

    async def test_json(self) -> None:
        """Events are objects; SIGTERM is the end as well."""
        child = self.watch(self.url, "--json", "--types", "leader")
        await child.until('"snapshot"')
        self.node.say("config", {"changed": {}})
        sent = self.node.say("leader", {"old": "a", "new": "b", "timeline": 7})
        await child.until('"leader", "data"')
        self.assertEqual(await self.signal(child, "TERM"), 0)
        objects = [json.loads(line) for line in child.out.splitlines()]
        self.assertEqual([each["type"] for each in objects], ["connected", "snapshot", "leader"])
        self.assertEqual((objects[2], child.err), (sent, ""))

    async def test_reader_gone(self) -> None:
        """When nobody reads any more it ends by itself, without a complaint."""
        child = self.watch(self.url)
        await child.until("members:")
        self.process.closeChildFD(1)
        self.node.say("leader", {"old": "a", "new": "b", "timeline": 7})
        self.assertEqual((await child.ended, child.err), (0, ""))

    async def test_unusable(self) -> None:
        """Options that cannot be right are one line, and exit code 1."""
        for words, line in (
            (["x"], "'x' is not a URL like http://HOST:PORT"),
            (["--cacert", "/nowhere"], "cannot read /nowhere: No such file or directory"),
            (
                ["--types", "x"],
                "--types: 'x' is none of leader, member, node, cluster, config, operation, history",
            ),
        ):
            child = self.watch(*words)
            self.assertEqual(await child.ended, 1)
            self.assertEqual((child.out, child.err), ("", f"twisted-patroni watch: {line}\n"))

    async def test_no_answer(self) -> None:
        """If no node answers for so long it says why, one by one, and the exit code is 2."""
        self.node.answer = (401, b'{"error": "who are you?"}')
        nobody = f"http://127.0.0.1:{free_port()}"
        child = self.watch(self.url, nobody, "--json", "--timeout", "0.5")
        self.assertEqual(await child.ended, 2)
        self.assertEqual(
            (child.out, child.err),
            (
                "",
                f"twisted-patroni watch: no node answers: {self.url} answers 401 (Unauthorized):"
                f" who are you?; {nobody} refuses connections\n",
            ),
        )


class ScreenTests(CommandCase):
    """On a terminal."""

    async def screen(self) -> Child:
        """Start the command on a terminal and wait for its picture."""
        child = self.watch(self.url, terminal=True)
        await child.until("demo")
        return child

    def assertGivenBack(self, child: Child) -> None:
        """Fail unless the terminal was given back, and nothing was written to it afterwards."""
        self.assertEqual(child.out.count("\x1b[?1049h"), 1)
        self.assertTrue(child.out.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l"), child.out[-200:])

    async def test_signals(self) -> None:
        """Whichever signal ends it, the terminal is given back and the exit code is 0."""
        for name in ("INT", "TERM", "HUP"):
            child = await self.screen()
            self.assertEqual(await self.signal(child, name), 0)
            self.assertGivenBack(child)

    async def test_keys(self) -> None:
        """Ctrl-C on the keyboard ends it; other keys are not shown."""
        child = await self.screen()
        self.process.write(b"hello")
        self.node.say("leader", {"old": "a", "new": "bbb", "timeline": 7})
        await child.until("bbb")
        self.process.write(b"\x03")
        self.assertEqual(await child.ended, 0)
        self.assertNotIn("hello", child.out)
        self.assertGivenBack(child)

    async def test_network(self) -> None:
        """What comes from the network is shown, and steers nothing."""
        self.node.greeting = view(member("a\x1b]0;evil\x07", "leader", api_url=None))
        child = await self.screen()
        await child.until("a?]0;evil?")
        await self.signal(child, "INT")
        sequences = set(re.findall("\x1b(?!\\[[0-9;?]*[a-zA-Z])", child.out))
        self.assertEqual(sequences, set())

    async def test_size(self) -> None:
        """It is drawn anew when the terminal gets another size."""
        child = await self.screen()
        await child.until("restart")
        # The kernel tells the child by SIGWINCH.
        fcntl.ioctl(self.process.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
        await child.until("connected to http:/…")
        await self.signal(child, "INT")
