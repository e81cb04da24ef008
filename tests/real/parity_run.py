"""The parity test's conversation: starts the node, shows it each scene, asks both servers."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from unittest import SkipTest

import yaml
from attrs import frozen

from tests.postgresql import bindir
from tests.real.harness import free_ports
from tests.real.parity_wire import Reply, ask, differences
from twisted_patroni._privileges import NoUnprivilegedAccount, unprivileged_account
from twisted_patroni.demo.processes import postmaster_pid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.real.parity_requests import Request, Scene, Story

_ROOT = Path(__file__).parents[2]
_ANSWER_LIMIT = 120.0
_STOP_LIMIT = 30.0
#: How many nodes share the scenes: most of the time one waits for what upstream waits for.
_NODES = 3


@frozen
class Exchange:
    """One request and what both servers made of it.

    :param scene: where it was sent.
    :param request: what was sent.
    :param theirs: upstream's reply.
    :param ours: our reply.
    :param respects: in which respects the replies differ, or what the engine was asked.
    :param asked: what the engine was asked, and what was logged, by theirs and by ours.
    """

    scene: str
    request: Request
    theirs: Reply
    ours: Reply
    respects: frozenset[str]
    asked: tuple[list[str], ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.scene}: {self.request.name}\n  differ in {sorted(self.respects)},"
            f" declared {self.request.differs}\n  theirs: {self.theirs}\n  ours:   {self.ours}"
            f"\n  asked by theirs: {self.asked[:1]}\n  asked by ours:   {self.asked[1:]}"
        )


class ParityNode:
    """The child process with both APIs.

    :ivar theirs: the port of upstream's API.
    :ivar ours: the port of ours.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="parity-"))
        self.directory.chmod(0o755)
        first = free_ports(5)
        self.ours, self.theirs, postgres, raft, self._standby = range(first, first + 5)
        try:
            self._account = unprivileged_account(self.directory)
        except NoUnprivilegedAccount as error:
            self.directory.rmdir()
            raise SkipTest(str(error)) from error
        home = self.directory / "node"
        home.mkdir(mode=0o700)
        self._account.give(home)
        self._data = home / "data"
        config = self.directory / "patroni.yml"
        config.write_text(yaml.safe_dump(self._config(home, postgres, raft)))
        self._process = self._start(config)

    def _config(self, home: Path, postgres: int, raft: int) -> dict[str, Any]:
        login = {"superuser": {"username": "postgres", "password": "postgres"},
                 "replication": {"username": "replicator", "password": "replicator"}}  # fmt: skip
        own = f"127.0.0.1:{self.ours}"
        return {
            "scope": "parity",
            "name": "node1",
            "restapi": {"listen": own, "connect_address": own, "server_tokens": "Minimal"},
            "log": {"level": "INFO"},
            "raft": {
                "data_dir": str(home / "raft"),
                "self_addr": f"127.0.0.1:{raft}",
                "bind_addr": f"127.0.0.1:{raft}",
                "partner_addrs": [],
            },
            "bootstrap": {
                # A scene may halt the HA loop for as long as it likes.
                "dcs": {"ttl": 300, "loop_wait": 10, "retry_timeout": 3},
                "initdb": [{"auth": "trust"}, {"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{postgres}",
                "connect_address": f"127.0.0.1:{postgres}",
                "data_dir": str(self._data),
                "bin_dir": str(bindir()),
                "pgpass": str(home / "pgpass"),
                "authentication": login,
                "pg_hba": [
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                "parameters": {
                    "fsync": "off",
                    "shared_buffers": "16MB",
                    "unix_socket_directories": "",
                },
            },
            "watchdog": {"mode": "off"},
        }

    def _start(self, config: Path) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PATRONI_")}
        command = [*self._account.prefix, sys.executable, "-m", "tests.real.parity_node"]
        with (self.directory / "log").open("w") as log:
            return subprocess.Popen(
                [*command, str(config), str(self.theirs), str(self._standby)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                cwd=_ROOT,
                env=environment,
                start_new_session=True,
            )

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def _told(self) -> Any:
        stdout = self._pipe(self._process.stdout)
        ready, _, _ = select.select([stdout], [], [], _ANSWER_LIMIT)
        line = stdout.readline() if ready else json.dumps({"error": "the node is silent"})
        answer = json.loads(line) if line else {"error": "the node has ended"}
        if "error" in answer:
            log = (self.directory / "log").read_text(errors="replace")
            raise RuntimeError(f"{answer['error']}\nthe node's log ends so:\n{log[-6000:]}")
        return answer.get("result")

    def _tell(self, command: dict[str, Any]) -> Any:
        print(json.dumps(command), file=self._pipe(self._process.stdin))
        return self._told()

    def __enter__(self) -> ParityNode:
        try:
            self._told()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def show(self, scene: Scene, *, cycle: bool = False) -> None:
        """Show a scene and nothing else.

        :param scene: the scene.
        :param cycle: let the HA loop run a cycle on the truth before.
        """
        self._tell({"show": scene.setups, "cycle": cycle})

    def asked(self) -> list[str]:
        """Return what the engine was asked since the last time, where the scene records that."""
        calls: list[str] = self._tell({"calls": True})
        return calls

    def end(self) -> None:
        """End the process and PostgreSQL, and remove all files."""
        with suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_LIMIT)
        self._pipe(self._process.stdout).close()
        for data in (self._data, Path(f"{self._data}-standby")):
            pid = postmaster_pid(data)
            if pid is not None:
                os.kill(pid, signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)


#: The set-ups with which the node records what the engine is asked, and what is logged.
_RECORDING = frozenset({"recorded", "ending", "logged"})


def _asked_differently(scene: Scene, calls: list[list[str]]) -> set[str]:
    if calls[0] == calls[1]:
        return set()
    return {"log" if ("logged",) in scene.setups else "engine"}


def _tell_story(node: ParityNode, scene: Scene, story: Story) -> Iterator[Exchange]:
    replies: list[list[Reply]] = []
    calls: list[list[str]] = []
    recorded = any(name in _RECORDING for name, *_ in scene.setups)
    for port in (node.theirs, node.ours):
        if scene.anew:
            node.show(scene)
        replies.append([ask(port, each) for each in story])
        calls.append(node.asked() if recorded else [])
    for request, theirs, ours in zip(story, *replies, strict=True):
        respects = differences(theirs, ours)
        if len(story) == 1:
            respects |= _asked_differently(scene, calls)
        yield Exchange(scene.name, request, theirs, ours, respects, tuple(calls))


def _exchanges(node: ParityNode, scenes: Sequence[Scene]) -> list[Exchange]:
    found: list[Exchange] = []
    with node:
        for scene in scenes:
            node.show(scene, cycle=True)
            for story in scene.stories:
                found += _tell_story(node, scene, story)
    return found


def exchanges(scenes: Sequence[Scene]) -> list[Exchange]:
    """Send all requests of all scenes to both servers of one of some nodes.

    :param scenes: the scenes.
    :raise SkipTest: if there is no PostgreSQL or no embedded DCS here.
    """
    bindir()
    if find_spec("pysyncobj") is None:
        raise SkipTest("no embedded DCS: pysyncobj is not installed")
    shares = [scenes[number::_NODES] for number in range(_NODES)]
    with ThreadPoolExecutor(_NODES) as threads:
        told = threads.map(_exchanges, [ParityNode() for _ in shares], shares)
        return [each for exchanges in told for each in exchanges]
