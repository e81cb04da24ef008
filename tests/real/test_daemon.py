"""The daemon as a process: how it starts and ends, what it logs, and what a reload does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import yaml
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.postgresql import bindir
from tests.real.asking import Api, eventually
from tests.real.faults import run, step
from tests.real.harness import (
    TWISTD,
    children,
    free_ports,
    kill,
    node_file,
    rewrite_node_file,
    scratch_directory,
)
from tests.real.onenode import OneNode
from tests.real.watching import REFUSED, looked, probe, prober, sampling
from twisted_patroni.demo.checks import script
from twisted_patroni.demo.cluster import Cluster
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.demo import Node


def listening(port: int) -> socket.socket:
    """Occupy a port.

    :param port: the port.
    """
    return socket.create_server((HOST, port))  # not hindered by connections that linger


class DeathTests(OneNode):
    """An engine that ends takes the process with it."""

    async def _end(self, how: str, log: Mapping[str, Any] | None = None) -> int:
        launcher = str(Path(__file__).with_name("failing_daemon.py"))
        cluster = self.prepared({"log": log or {}})
        node = self.node
        command = (sys.executable, launcher, how, "4", *TWISTD)
        dying = Cluster(
            reactor,  # type: ignore[arg-type]
            cluster.directory,
            1,
            base_port=node.place.base_port,
            bin_dir=cluster.bin_dir,
            daemon=command,
            config_overrides=node_file(node),
        )
        await dying.start()
        return await dying.nodes[0].exited.addTimeout(60.0, reactor)

    async def test_exit(self) -> None:
        """SystemExit in the engine's thread ends the process with its code, PostgreSQL first."""
        self.assertEqual(await self._end("7"), 7)
        self.assertIsNone(self.node.postmaster_pid())
        self.assertIn("CRITICAL: The engine has ended with exit code 7", self.log())

    async def test_defect(self) -> None:
        """An exception in the engine's thread ends the process with 1, and is told."""
        self.assertEqual(await self._end("a defect", {"traceback_level": "debug"}), 1)
        self.assertIsNone(self.node.postmaster_pid())
        self.assertIn("ERROR: The engine has failed, DETAIL: 'a defect'\n", self.log())
        self.assertNotIn("Traceback", self.log())

    async def test_busy_port(self) -> None:
        """A REST port that somebody else has ends the start with one line that names the key."""
        self.prepared()
        with listening(self.node.place.rest_port):
            self.node.start()
            self.assertEqual(await self.node.exited.addTimeout(60.0, reactor), 1)
        (line,) = (line for line in self.log().splitlines() if "restapi.listen" in line)
        self.assertIn(f"CRITICAL: Couldn't start a service on '{HOST}:", line)
        self.assertNotIn("Traceback", self.log())
        self.assertFalse(self.node.place.data.exists())

    async def test_other_cluster(self) -> None:
        """A data directory of another cluster ends the process, and the directory is left alone."""
        node = await self.started()
        self.assertEqual(await node.stop(), 0)
        shutil.rmtree(node.place.data)
        initdb = str(bindir() / "initdb")
        options = ("-D", str(node.place.data), "-U", "postgres", "-N", "--no-locale")
        done = await run(*node.prefix, initdb, *options)
        self.assertEqual(done.code, 0, done.output)
        node.start()
        self.assertEqual(await node.exited.addTimeout(60.0, reactor), 1)
        self.assertIn("system ID mismatch", self.log())
        self.assertFalse((node.place.data / "postmaster.pid").exists())


class StartTests(OneNode):
    """What cannot work is said in one line, with exit code 1."""

    async def _refusal(self, content: str | Mapping[str, Any] | None) -> str:
        directory = scratch_directory()
        self.addCleanup(shutil.rmtree, directory)
        path = directory / "patroni.yml"
        if content is not None:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        done = await run(script("twistd"), *TWISTD, str(path))
        self.assertEqual(done.code, 1, done.output)
        self.assertEqual(len(done.output.splitlines()), 1, done.output)
        return done.output.replace(str(path), "FILE")

    async def test_files(self) -> None:
        """A file that is missing or broken is named."""
        self.assertEqual(await self._refusal(None), "patroni: FILE: there is no such file\n")
        self.assertIn("patroni: FILE: ParserError: ", await self._refusal("a: [1\nb: {"))

    async def test_settings(self) -> None:
        """A setting that is wrong, or not supported, is named."""
        for key, value, expected in (
            ("certfile", "/no/such.crt", "patroni: restapi.certfile: cannot read /no/such.crt: No"),
            ("listen", HOST, 'expected <HOST>:<PORT> for "listen"'),
            ("allowlist", ["10.0.0.0/99"], "patroni: restapi.allowlist: '10.0.0.0/99' is not"),
        ):
            restapi = {"listen": f"{HOST}:8008", key: value}
            with step(key):
                self.assertIn(expected, await self._refusal({"name": "x", "restapi": restapi}))

    async def test_first_process(self) -> None:
        """As process 1 the daemon refuses and says what to do."""
        words = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
        if subprocess.run([*words, "true"], capture_output=True).returncode:
            raise SkipTest("not permitted here: unshare --pid --mount-proc")
        self.prepared()
        config = str(self.node.config_file)
        done = await run(*words, script("twistd"), *TWISTD, config)
        self.assertEqual(done.code, 1, done.output)
        self.assertIn("run it under an init (docker run --init, or tini)", done.output)


class ReloadTests(OneNode):
    """SIGHUP applies what changed, and never costs the API."""

    async def serves(self, port: int, path: str, code: int | str) -> None:
        """Wait until a port answers as expected.

        :param port: the port.
        :param path: the path asked for.
        :param code: the status expected, or what :func:`probe` says without one.
        """

        async def look() -> bool:
            return await deferToThread(probe, port, path) == code

        await eventually(f"{port} answers {path} with {code}", look)

    async def test_reload(self) -> None:
        """Settings change without a refused connection, wrong ones are told and leave the old."""
        node = await self.started()
        log = node.place.log_file
        sampler = prober(node, "/liveness")
        with sampling(sampler):
            with step("headers and tags change, time and again", log):
                for number in range(5):
                    rewrite_node_file(node, {"tags": {"turn": number}})
                    self.reload(http_extra_headers={"X-Turn": str(number)})
                    await self.serves(node.place.rest_port, f"/health?tag_turn={number}", 200)
                    reply = await self.api.ask("GET", f"{node.rest_url}/health")
                    self.assertEqual(reply.headers["x-turn"], str(number))
                    await looked(sampler, 10)
            with step("a new password", log):
                await self._new_password(f"{node.rest_url}/reload")
            with step("a value that is wrong changes nothing", log):
                self.reload(allowlist=["10.0.0.0/99"], http_extra_headers={"X-Turn": "wrong"})
                await self.logged("restapi.allowlist: '10.0.0.0/99' is not a network")
                reply = await self.api.ask("GET", f"{node.rest_url}/health")
                self.assertEqual((reply.code, reply.headers["x-turn"]), (200, "4"))
        self.assertEqual({sample.seen for sample in sampler.samples}, {200})
        await self._other_addresses(node)

    async def _new_password(self, url: str) -> None:
        self.assertEqual((await self.api.ask("POST", url)).code, 202)
        self.reload(authentication={"username": "demo", "password": "changed"})
        changed = Api(("demo", "changed"))

        async def accepted() -> bool:
            return (await changed.ask("POST", url)).code == 202

        await eventually("the new password is accepted", accepted)
        self.assertEqual((await self.api.ask("POST", url)).code, 401)

    async def _other_addresses(self, node: Node) -> None:
        place, log = node.place, node.place.log_file
        old, new = place.rest_port, free_ports(1)
        with step("a port that is busy changes nothing, but another SIGHUP tries again", log):
            with listening(new):
                self.reload(allowlist=[], listen=f"{HOST}:{new}")
                await self.logged(f"Couldn't start a service on '{HOST}:{new}'")
                await self.serves(old, "/health", 200)
            self.reload()
            await self.serves(new, "/health", 200)
            await self.serves(old, "/health", REFUSED)
        with step("an address that cannot be had changes nothing", log):
            self.reload(listen=f"192.0.2.1:{new}")
            await self.logged(f"Couldn't start a service on '192.0.2.1:{new}'")
            await self.serves(new, "/health", 200)
        with step("an address on the same port that the former listener is in the way of", log):
            self.reload(listen=f"127.1:{new}", http_extra_headers={"X-Turn": "moved"})

            async def moved() -> bool:
                reply = await self.api.ask("GET", f"http://{HOST}:{new}/health")
                return reply.headers.get("x-turn") == "moved"

            await eventually("the settings count", moved)
        with step("a file that is not YAML changes nothing", log):
            node.config_file.write_text("restapi: [")
            self.reload()
            await self.logged("Exception when reloading local configuration")
            await self.serves(new, "/health", 200)
        with step("SIGTERM after all that ends the process", log):
            self.assertEqual(await node.stop().addTimeout(60.0, reactor), 0)
            self.assertIsNone(node.postmaster_pid())


def sockets(pid: int) -> set[str]:
    """Return the sockets that a process has open.

    :param pid: the process.
    """
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(entry))
    return {link for link in links if link.startswith("socket:")}


class BackgroundTests(OneNode):
    """The daemon in the background, as twistd does it without ``-n``."""

    async def test_background(self) -> None:
        """It writes its pid and its log to files, keeps PostgreSQL apart, and cleans up."""
        self.prepared()
        node, home = self.node, self.node.place.home
        pidfile = home / "twistd.pid"
        words = (f"--pidfile={pidfile}", f"--rundir={home}", "patroni", str(node.config_file))
        rewrite_node_file(node, {"log": {"dir": str(home)}})
        done = await run(*node.prefix, script("twistd"), *words)
        self.assertEqual(done.code, 0, done.output)

        async def up() -> bool:
            return (await self.api.ask("GET", f"{node.rest_url}/primary")).code == 200

        pid = int(pidfile.read_text())
        self.addCleanup(kill, pid, signal.SIGKILL)
        await eventually("it is the primary", up)
        log = home / "patroni.log"

        async def settled() -> bool:
            return "the leader with the lock" in log.read_text()

        await eventually("the bootstrap is over", settled)
        postmaster = node.postmaster_pid()
        assert postmaster is not None
        self.assertNotIn(postmaster, children(pid))
        self.assertEqual(sockets(pid) & sockets(postmaster), set())
        kill(pid, signal.SIGTERM)

        async def gone() -> bool:
            return not Path(f"/proc/{pid}").exists()

        await eventually("the process has ended", gone)
        self.assertFalse(pidfile.exists())
        self.assertIsNone(node.postmaster_pid())


class LogTests(OneNode):
    """The log has Patroni's format, all that is to be known, and no secret."""

    async def test_json(self) -> None:
        """Every line of ours is a JSON document, a failure without its traceback if so wanted."""
        directory = scratch_directory()
        self.addCleanup(shutil.rmtree, directory)
        os.chmod(directory, 0o777)
        log = {"type": "json", "dir": str(directory), "level": "DEBUG"}
        node = await self.started({"log": log})
        for path in ("/patroni", "/cluster", "/metrics", "/nonsense"):
            await self.api.ask("GET", node.rest_url + path)
        await self.api.ask("PATCH", f"{node.rest_url}/config", {"postgresql": {}})
        self.assertEqual(await node.stop(), 0)
        lines = [json.loads(line) for line in (directory / "patroni.log").read_text().splitlines()]
        told = {line["message"].split()[0] for line in lines}
        self.assertIn("twistd", told)
        self.assertTrue(any('"GET /nonsense HTTP/1.1" 503' in line["message"] for line in lines))
        text = self.log() + (directory / "patroni.log").read_text()
        config = node_file(node)
        known = [one["password"] for one in config["postgresql"]["authentication"].values()]
        for secret in (*known, config["restapi"]["authentication"]["password"]):
            self.assertNotIn(secret, text)
        self.assertNotIn("Traceback", text)

    async def test_open_to_network(self) -> None:
        """A node on which anybody may act says so at its start."""
        overrides = {"restapi": {"authentication": {"username": "", "password": ""}}}
        self.prepared(overrides)
        document = node_file(self.node)
        del document["restapi"]["authentication"]
        document["restapi"]["listen"] = f"0.0.0.0:{self.node.place.rest_port}"
        self.node.config_file.write_text(yaml.safe_dump(document))
        self.node.start()
        await self.logged("SECURITY: anybody who reaches 0.0.0.0:")
        self.assertEqual(await self.node.stop(), 0)
