"""What a test may use alone: a directory, which is gone afterwards, and a free port."""

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
