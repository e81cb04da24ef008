"""What a test may use alone: a directory, which is gone afterwards, and ports."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase


def scratch_directory(case: SynchronousTestCase) -> Path:
    """Make an empty directory that exists until the test is over.

    :param case: the test.
    :return: its absolute path, short enough for Unix sockets.
    """
    path = Path(tempfile.mkdtemp(prefix="demo-")).resolve()
    case.addCleanup(shutil.rmtree, path, ignore_errors=True)
    return path


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def black_hole(case: SynchronousTestCase) -> int:
    """Return a port of loopback to which no connection comes about until the test is over.

    :param case: the test.
    """
    full = socket.socket()
    case.addCleanup(full.close)
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    for _ in range(3):
        client = socket.socket()
        case.addCleanup(client.close)
        client.setblocking(False)
        client.connect_ex(full.getsockname())
    port: int = full.getsockname()[1]
    return port
