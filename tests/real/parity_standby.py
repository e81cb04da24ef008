"""A second PostgreSQL that really streams from the node's own: what a replica's API would ask."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import define

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 20.0


@define(eq=False)
class Standby:
    """A streaming standby of the node's PostgreSQL; its methods block.

    :param primary: upstream's PostgreSQL handler.
    :param port: where the standby listens.
    """

    primary: Any
    port: int

    @property
    def conninfo(self) -> dict[str, Any]:
        """libpq's parameters for the standby."""
        return {**self.primary.connection_pool.conn_kwargs, "host": "127.0.0.1", "port": self.port}

    @property
    def _data(self) -> Path:
        return Path(f"{self.primary.data_dir}-standby")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.primary.pgcommand(program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_LIMIT,
        )

    def create(self) -> None:
        """Copy the primary, start the copy and wait until it streams."""
        known = self.primary.connection_pool.conn_kwargs
        source = f"host={known['host']} port={known['port']} user={known['user']}"
        self._run("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync",
                  "-d", source, "-D", str(self._data))  # fmt: skip
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", str(int(_LIMIT)),
                  "-l", str(self._data.with_suffix(".log")), "-o", options, "start")  # fmt: skip
        self.wait("SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def execute(self, *statements: str) -> Any:
        """Run statements on the standby and return the last one's first value, if it has any."""
        with psycopg.connect(**self.conninfo, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    def wait(self, condition: str) -> None:
        """Wait until a statement returns true.

        :param condition: the statement.
        """
        deadline = time.monotonic() + _LIMIT
        while not self.execute(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(condition)
            time.sleep(0.05)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Have it wait for an archive instead of streaming."""
        source = self.execute("SHOW primary_conninfo")
        self.execute(
            "ALTER SYSTEM SET primary_conninfo = ''",
            "ALTER SYSTEM SET restore_command = 'false'",
            "SELECT pg_reload_conf()",
        )
        self.wait("SELECT count(*) = 0 FROM pg_stat_wal_receiver")
        try:
            yield
        finally:
            self.execute(
                psycopg.sql.SQL("ALTER SYSTEM SET primary_conninfo = {}")
                .format(psycopg.sql.Literal(source))
                .as_string(),
                "ALTER SYSTEM RESET restore_command",
                "SELECT pg_reload_conf()",
            )
            self.wait("SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'")

    @contextmanager
    def replay_paused(self) -> Iterator[None]:
        """Have it receive without replaying."""
        self.execute("SELECT pg_wal_replay_pause()")
        self.wait("SELECT pg_get_wal_replay_pause_state() = 'paused'")
        try:
            yield
        finally:
            self.execute("SELECT pg_wal_replay_resume()")
