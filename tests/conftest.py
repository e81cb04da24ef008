"""Has pytest use two processes where pytest-xdist is installed: real clusters mostly wait.

It does so for whole directories; ``-n`` overrules it, ``-n 0`` for one process.
"""

from __future__ import annotations

from pathlib import Path

import pytest

PROCESSES = 2


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Choose how many processes run the tests, each file in one of them.

    :param config: what the command line says.
    """
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    chosen = option.numprocesses is not None or option.tx or option.usepdb
    if not chosen and all(Path(each).is_dir() for each in config.args):
        option.numprocesses, option.dist = PROCESSES, "loadfile"
