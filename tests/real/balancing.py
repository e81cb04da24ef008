"""A real HAProxy for tests, and what it thinks of its servers."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING
from unittest import SkipTest

from attrs import define, field
from twisted.internet.threads import deferToThread

from tests.real.asking import eventually
from tests.real.harness import free_ports, scratch_directory
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_HEAD = """\
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
#: A server's state, and what its last check has found.
UP, DOWN = ("UP", "L7OK", "200"), ("DOWN", "L7STS", "503")


@define(eq=False)
class HAProxy:
    """HAProxy with some proxies; blocks while it starts. :meth:`stop` it at the end.

    :param proxies: the lines of each proxy, its servers included, by its name.
    :ivar ports: the port of each proxy.
    """

    proxies: Mapping[str, Sequence[str]]
    ports: dict[str, int] = field(init=False)
    _directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Where it usually is need not be on the path of a user who is not root.
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if program is None:
            raise SkipTest("no haproxy on the PATH")
        first = free_ports(len(self.proxies))
        self.ports = {name: first + number for number, name in enumerate(self.proxies)}
        self._directory = scratch_directory()
        file = self._directory / "haproxy.cfg"
        file.write_text(self._configuration())
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "-db", "-f", file], stdout=log, stderr=log)

    def _configuration(self) -> str:
        lines = [_HEAD.format(stats=self._directory / "stats")]
        for name, proxy in self.proxies.items():
            lines += [f"listen {name}", f"    bind {HOST}:{self.ports[name]}"]
            lines += [f"    {line}" for line in proxy]
        return "\n".join([*lines, ""])

    def servers(self) -> set[tuple[str, ...]]:
        """Return what its socket says about each server of each proxy; blocks.

        Each is a tuple of the proxy's name, the server's, and the three words of :data:`UP`.
        """
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

    async def until(self, what: str, expected: set[tuple[str, ...]]) -> None:
        """Wait until it sees its servers as expected.

        :param what: that, for the report.
        :param expected: for each server the first words, at least, of what :meth:`servers` says.
        """
        seen: set[tuple[str, ...]] = set()

        async def agrees() -> bool:
            nonlocal seen
            try:
                seen = await deferToThread(self.servers)
            except OSError:  # it is still starting
                return False
            return all(any(row[: len(part)] == part for row in seen) for part in expected)

        try:
            await eventually(what, agrees)
        except AssertionError as error:
            error.add_note(f"HAProxy sees: {sorted(seen)}\n{self._log()}")
            raise

    def _log(self) -> str:
        return (self._directory / "log").read_text()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory)
