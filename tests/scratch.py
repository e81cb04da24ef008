"""A directory for one test, gone afterwards; trial's own stay in the working directory."""

from __future__ import annotations

import shutil
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
