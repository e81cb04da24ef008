"""A real browser for tests, and the pages it is shown."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.real.harness import scratch_directory
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twisted.internet.interfaces import IListeningPort
    from twisted.web.server import Request

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
)


class _Page(Resource):
    """Serves one page, and takes what it reports."""

    isLeaf = True

    def __init__(self, page: bytes, reports: list[Any]) -> None:
        super().__init__()
        self._page, self._reports = page, reports

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("Content-Type", "text/html; charset=utf-8")
        return self._page

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        self._reports.append(json.load(request.content))
        return b""


@define(eq=False)
class Browser:
    """A headless Chromium that shows one page. :meth:`stop` it at the end.

    :param page: the page; what it POSTs to its own origin as JSON is in :attr:`reports`.
    :ivar reports: that.
    :ivar origin: the page's.
    """

    page: str
    reports: list[Any] = field(factory=list, init=False)
    origin: str = field(init=False)
    _port: IListeningPort = field(init=False)
    _directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self._program() is None:
            raise SkipTest(f"no {' or '.join(_PROGRAMS)} on the PATH")
        site = Site(_Page(self.page.encode(), self.reports))
        self._port = reactor.listenTCP(0, site, interface=HOST)  # type: ignore[arg-type]
        address = self._port.getHost()
        assert isinstance(address, IPv4Address)
        self.origin = f"http://{HOST}:{address.port}"
        self._directory = scratch_directory()

    def _program(self) -> str | None:
        return next(filter(None, map(shutil.which, _PROGRAMS)), None)

    def open(self, parameters: Mapping[str, str]) -> None:
        """Show the page.

        :param parameters: the page finds them in ``location.hash``, as JSON.
        """
        program = self._program()
        assert program is not None
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    *_OPTIONS,
                    f"--user-data-dir={self._directory / 'profile'}",
                    f"{self.origin}/#{json.dumps(parameters, separators=(',', ':'))}",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def stop(self) -> None:
        """Close the browser and the page's server."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it is many processes
            self._process.wait()
        await maybeDeferred(self._port.stopListening)
        shutil.rmtree(self._directory, ignore_errors=True)
