"""The service that twistd runs: engine and API started together, reloaded, and ended in order."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from twisted.python.components import Componentized
from zope.interface import provider

from twisted_patroni.engine.host import EngineHost, LoadedEngine, UnusableConfiguration
from twisted_patroni.engine.lanes import Lanes
from twisted_patroni.looks import Looks
from twisted_patroni.restapi import RestApi
from twisted_patroni.seat import ApiSeat
from twisted_patroni.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from twisted.logger import LogEvent

    from twisted_patroni.engine.interface import Cycle, Engine, Stir
    from twisted_patroni.settings import Settings

_log = Logger()
_LEVELS = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}


@provider(ILogObserver)
def into_stdlib(event: LogEvent) -> None:
    """Pass Twisted's log events to the ``logging`` package, which has Patroni's format and level.

    :param event: the event; its namespace becomes the logger's name.
    """
    logger = logging.getLogger(event.get("log_namespace") or "twisted")
    level = _LEVELS.get(event.get("log_level", LogLevel.info), logging.INFO)
    if not logger.isEnabledFor(level):
        return
    failure = event.get("log_failure")
    if failure is None:
        logger.log(level, "%s", formatEvent(event))
        return
    try:
        failure.raiseException()
    except BaseException:
        # What Patroni has made of this method decides about the traceback (`log.traceback_level`).
        logger.exception("%s", formatEvent(event))


class PatroniService(Service):
    """One node: upstream's engine in its thread, and the API on the reactor.

    :param reactor: the reactor.
    :param loaded: the engine's configuration.
    :param leave: ends the process with an exit code, after the reactor has stopped.
    """

    name = "patroni"

    def __init__(self, reactor: Any, loaded: LoadedEngine, leave: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._lanes = Lanes.on(reactor)
        self._leave = leave
        self._api: RestApi | None = None
        self._engine: Engine | None = None
        self._looks = Looks(reactor, self._look)
        self._host = EngineHost(
            loaded,
            reactor,
            self._lanes,
            self._seat,
            self._looks.publish,
            self._cycled,
            self._stirred,
        )
        self._exit_code = 0
        self._engine_gone = False
        self._stopped: Deferred[None] | None = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application, and send its log where Patroni's goes.

        :param parent: the application.
        """
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, into_stdlib)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start the engine, which opens the API when it is ready for it."""
        super().startService()
        # twistd has turned these into loggers; what writes to them would come back to itself.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        self._reactor.callWhenRunning(self._run)

    def _run(self) -> None:
        for lane in self._lanes.each():
            lane.start()
        signal.signal(signal.SIGHUP, self._hup)
        for number in (signal.SIGTERM, signal.SIGINT):
            # The reactor's own handlers make twistd end by the signal; upstream exits with 0.
            signal.signal(number, self._terminate)
        self._host.ended.addCallback(self._engine_ended)
        self._host.start()

    def stopService(self) -> Deferred[None]:
        """Shut the API first, then let the engine shut down; nothing bounds the engine's time."""
        super().stopService()
        if self._stopped is None:
            self._stopped = Deferred()
            self._reactor.addSystemEventTrigger("after", "shutdown", self._end_process)
            if self._api is not None:
                self._api.close()
            self._host.stop()
            if self._engine_gone or not self._host.constructed:
                # Nothing interrupts upstream's constructor, and PostgreSQL is not touched yet.
                self._finished()
        return self._stopped

    def _engine_ended(self, code: int) -> None:
        self._exit_code = code
        self._engine_gone = True
        if self._stopped is not None:
            self._finished()
        else:
            self._stop_reactor()

    def _finished(self) -> None:
        if self._stopped is not None and not self._stopped.called:
            self._stopped.callback(None)

    def _end_process(self) -> None:
        self._leave(self._exit_code)

    def _hup(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._host.reload)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        # Signals may come together, or with the engine's own end.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _look(self) -> Deferred[Any]:
        assert self._engine is not None
        return self._engine.look()

    def _cycled(self, cycle: Cycle) -> None:
        assert self._api is not None
        self._api.cycled(cycle)

    def _stirred(self, stir: Stir) -> None:
        assert self._api is not None
        self._api.watcher.stirred(stir)

    def _seat(self, engine: Engine, section: Mapping[str, Any]) -> ApiSeat:
        """Put the API into upstream's hands; called in the engine's thread."""

        def make_api(settings: Settings) -> RestApi:
            self._engine = engine
            self._api = RestApi(self._reactor, engine, self._looks, self._lanes, settings)
            return self._api

        try:
            return ApiSeat(
                self._reactor, make_api, section, engine.version, lambda: self._host.loaded.ctl
            )
        except SettingsError as error:
            raise UnusableConfiguration(str(error)) from error
        except OSError as error:
            raise UnusableConfiguration(error.strerror or str(error)) from error


def leave_process(code: int, pidfile: str) -> None:
    """End the process now, with its output flushed but without waiting for any thread.

    An engine's worker that hangs in a system call must not keep a stopped node's process alive.

    :param code: the exit code.
    :param pidfile: twistd's, removed if it is this process's; empty for none.
    """
    if pidfile:
        try:
            with open(pidfile) as file:
                ours = file.read().strip() == str(os.getpid())
            if ours:
                os.remove(pidfile)
        except OSError as error:
            _log.warn("cannot remove {pidfile}: {error}", pidfile=pidfile, error=error)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(code)
