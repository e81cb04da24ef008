"""Find the processes of a cluster in /proc: those that outlived the one that started them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PROC = Path("/proc")


def postmaster_pid(data: Path, proc: Path = PROC) -> int | None:
    """Return the process id of the PostgreSQL server that runs in a data directory.

    The working directory of the process is compared, since a stale file may name a process id
    that meanwhile belongs to somebody else.

    :param data: the data directory.
    :param proc: where the system shows its processes.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        working_directory = os.readlink(proc / str(pid) / "cwd")
    except (OSError, ValueError):
        return None
    return pid if working_directory == os.path.realpath(data) else None


def find_command(command: Sequence[str], proc: Path = PROC) -> int | None:
    """Return the process id of a process that was started with a command.

    Words before the command are allowed: an interpreter's, or those that drop privileges.

    :param command: the last words of the command line.
    :param proc: where the system shows its processes.
    """
    tail = b"".join(os.fsencode(word) + b"\0" for word in command)
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if line == tail or line.endswith(b"\0" + tail):
            return int(entry.name)
    return None
