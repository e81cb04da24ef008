"""Load generators: wrk and ab where they are installed, else a child process in Python."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attrs import frozen

_SCRIPT = Path(__file__).with_name("wrk.lua")
#: Seconds that a client waits for an answer before it counts as a failure.
PATIENCE = 5
_MORE_THAN_ENOUGH = 1_000_000


@frozen
class Load:
    """What a generator found.

    :param generator: which one it was.
    :param requests: requests answered.
    :param seconds: how long it went on.
    :param failures: requests answered badly, late or not at all.
    :param p50: median time to an answer in seconds, with a new connection from its beginning.
    :param p99: the time within which 99 of 100 answers came.
    """

    generator: str
    requests: int
    seconds: float
    failures: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return max(0, self.requests - self.failures) / self.seconds


class NoLoad(Exception):
    """A generator found no answers; the text says why."""


def run(url: str, *, clients: int, seconds: float, keep_alive: bool) -> Load:
    """Ask for a URL as fast as the answers come.

    :param url: the URL.
    :param clients: how many ask at the same time.
    :param seconds: for how long.
    :param keep_alive: use each connection as long as the server does, else once.
    :raise NoLoad: if there were no answers.
    """
    seconds = max(1, round(seconds))
    if keep_alive and shutil.which("wrk"):
        load = _wrk(url, clients, seconds)
    elif not keep_alive and shutil.which("ab"):
        load = _ab(url, clients, seconds)
    else:
        load = _python(url, clients, seconds, keep_alive)
    if load.requests <= load.failures:
        raise NoLoad(f"{load.failures} failures and no answer from {url}")
    return load


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 3 * PATIENCE, check=True
        )
    except subprocess.TimeoutExpired:
        raise NoLoad(f"{command[0]} did not end") from None
    except subprocess.CalledProcessError as error:
        raise NoLoad(error.stderr.strip()) from error
    return done.stdout


def _wrk(url: str, clients: int, seconds: int) -> Load:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", f"--timeout={PATIENCE}s"]
    output = _output([*command, "-s", str(_SCRIPT), url], seconds)
    return Load("wrk", **json.loads(output.strip().splitlines()[-1]))


def _ab(url: str, clients: int, seconds: int) -> Load:
    with tempfile.NamedTemporaryFile("r", suffix=".csv") as percentages:
        limits = ["-t", str(seconds), "-n", str(_MORE_THAN_ENOUGH), "-s", str(PATIENCE)]
        command = ["ab", "-q", "-d", "-l", "-r", "-c", str(clients), *limits]
        output = _output([*command, "-e", percentages.name, url], seconds)
        within = {row[0]: float(row[1]) / 1000 for row in list(csv.reader(percentages))[1:]}
    return Load(
        "ab",
        requests=int(_number(r"Complete requests: +(\d+)", output)),
        seconds=_number(r"Time taken for tests: +([\d.]+)", output),
        failures=int(
            _number(r"Failed requests: +(\d+)", output)
            + _number(r"Non-2xx responses: +(\d+)", output)
        ),
        p50=within.get("50", 0.0),
        p99=within.get("99", 0.0),
    )


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def _python(url: str, clients: int, seconds: int, keep_alive: bool) -> Load:
    mode = "keep" if keep_alive else "new"
    command = [sys.executable, "-m", "benchmarks.pyload", url, str(clients), str(seconds), mode]
    return Load("python", **json.loads(_output(command, seconds)))
