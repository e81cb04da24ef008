"""Upstream's daemon in a thread of this process: loading, start, reload, stop and death.

Construction and HA cycles must happen in one thread: upstream's PostgreSQL handler remembers the
thread that built it and retries queries for that thread only.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import patroni.api
from attrs import define, field, frozen
from patroni.__main__ import Patroni as UpstreamPatroni
from patroni.config import Config
from patroni.exceptions import ConfigParseError
from patroni.log import PatroniLogger
from patroni.utils import parse_int
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_patroni.engine.adapter import EngineAdapter
from twisted_patroni.engine.interface import Cycle
from twisted_patroni.engine.observer import observe_stirs

if TYPE_CHECKING:
    from twisted_patroni.engine.interface import Engine, Look, Stir
    from twisted_patroni.engine.lanes import Lanes

_log = Logger()
_MINIMUM_STACK = 64 * 1024
_DEFAULT_STACK = 512 * 1024


class UnusableConfiguration(Exception):
    """The configuration cannot be loaded; the text is one line for the operator."""


class ApiSeat(Protocol):
    """The API as upstream's daemon uses it. Every call comes from the engine's thread."""

    @property
    def connection_string(self) -> str:
        """The URL that this member publishes as its ``api_url``."""

    def start(self) -> None:
        """Begin to answer requests."""

    def shutdown(self) -> None:
        """Stop answering, in bounded time."""

    def reload_config(self, config: Mapping[str, Any]) -> None:
        """Apply a changed ``restapi`` section, or keep the one in use."""

    def reload_local_certificate(self) -> bool:
        """Tell whether the certificate on disk differs from the one in use."""


#: Builds the API for an engine from the ``restapi`` section, in the engine's thread.
ApiMaker = Callable[["Engine", Mapping[str, Any]], ApiSeat]


@frozen
class LoadedEngine:
    """A configuration that was read, and the logging that was set up from it.

    :param config: upstream's configuration object.
    :param logger: upstream's logging, writing to this process's own standard error.
    """

    config: Config
    logger: PatroniLogger

    @property
    def restapi(self) -> Mapping[str, Any]:
        """The ``restapi`` section, with the environment's overrides."""
        section: Mapping[str, Any] = self.config.get("restapi") or {}
        return section

    @property
    def ctl(self) -> Mapping[str, Any]:
        """The ``ctl`` section, which members' requests mind as well as ``patronictl``."""
        section: Mapping[str, Any] = self.config.get("ctl") or {}
        return section


def load(configfile: str) -> LoadedEngine:
    """Read a Patroni configuration and set its logging up.

    :param configfile: a YAML file or a directory of them; empty for an environment-only
        configuration.
    :raise UnusableConfiguration: if it cannot be read.
    """
    # Before the configuration is read, so that what reading it logs has the usual format; and
    # before twistd redirects the standard streams, so that the handler keeps the real one.
    logger = PatroniLogger()
    try:
        config = Config(configfile)
    except ConfigParseError as error:
        if configfile and not os.path.exists(configfile):
            raise UnusableConfiguration(f"{configfile}: there is no such file") from error
        raise UnusableConfiguration(" ".join(str(error.value).split())) from error
    except Exception as error:  # YAML has many errors, and upstream lets those of its own pass
        reason = f"{type(error).__name__}: {error}"
        raise UnusableConfiguration(" ".join(f"{configfile}: {reason}".split())) from error
    logger.reload_config(config.get("log", {}))
    return LoadedEngine(config, logger)


def _set_stack_size(config: Config) -> None:
    """Size the stacks of threads to come as upstream's main function does."""
    wanted = parse_int(config.get("thread_stack_size"), "B")
    size = max(_MINIMUM_STACK, _DEFAULT_STACK if wanted is None else wanted)
    try:
        threading.stack_size(size)
    except (ValueError, RuntimeError) as error:
        _log.warn("thread_stack_size {size} is not possible: {error}", size=size, error=error)


class Patroni(UpstreamPatroni):
    """Upstream's daemon, telling of its cycles, without its hold on the process's signals.

    The name is part of the API: it is the realm of basic authentication.
    """

    _cycled: Callable[[Cycle], None]
    _seconds: Callable[[], float]
    _cycle_began: float
    #: The HA loop has had to do without the DCS, in its last cycle or in this one.
    dcs_lost = False
    _dcs_failed = False
    _reloads_wanted = 0
    _reloads_done = 0

    def setup_signal_handlers(self) -> None:
        """Prepare the flags; the signals themselves belong to the reactor's thread."""
        self._received_sighup = False
        self._sigterm_lock = Lock()
        self._received_sigterm = False

    def observe_cycles(self, cycled: Callable[[Cycle], None], seconds: Callable[[], float]) -> None:
        """Have each HA cycle reported as soon as its work is done; to be called before any runs.

        :param cycled: called in the engine's thread.
        :param seconds: the clock.
        """
        self._cycled, self._seconds = cycled, seconds

    def dcs_failed(self) -> None:
        """Note that this cycle has to do without the DCS."""
        self.dcs_lost = self._dcs_failed = True

    def sighup_handler(self, *arguments: Any) -> None:
        """Ask for a reload; see :attr:`reload_pending`."""
        super().sighup_handler(*arguments)
        self._reloads_wanted += 1

    @property
    def reload_pending(self) -> bool:
        """Whether a reload was asked for and is still to be done; the HA loop clears its own flag
        before it begins."""
        return self._received_sighup or self._reloads_wanted != self._reloads_done

    def _run_cycle(self) -> None:
        # What was asked for before the loop took the flag has been done by now.
        wanted = self._reloads_wanted
        if not self._received_sighup:
            self._reloads_done = wanted
        self._cycle_began = self._seconds()
        self._dcs_failed = False
        super()._run_cycle()

    def schedule_next_run(self) -> None:
        """Report the cycle, whose last step this is, and wait for the next one."""
        self.dcs_lost = self._dcs_failed
        try:
            self._cycled(Cycle(self._cycle_began, self._seconds()))
        except Exception:  # the HA loop must go on, whatever is wrong with our view of it
            _log.failure("An HA cycle could not be reported")
        super().schedule_next_run()


@define(eq=False)
class EngineHost:
    """Owns the engine's thread.

    :param loaded: what to run.
    :param reactor: results and the end are reported in its thread; it is the clock, too.
    :param lanes: where the engine's blocking calls run.
    :param make_api: builds the API when upstream asks for it.
    :param looked: told in the reactor's thread of each look at the DCS.
    :param cycled: told in the reactor's thread of each HA cycle.
    :param stirred: told in the reactor's thread of what happens in between.
    """

    loaded: LoadedEngine
    reactor: Any
    lanes: Lanes
    make_api: ApiMaker
    looked: Callable[[Look], None]
    cycled: Callable[[Cycle], None]
    stirred: Callable[[Stir], None]
    ended: Deferred[int] = field(factory=Deferred, init=False)
    _daemon: Patroni | None = field(default=None, init=False)
    _reloading: bool = field(default=False, init=False)
    _stopping: bool = field(default=False, init=False)

    def start(self) -> None:
        """Start the engine's thread; :attr:`ended` fires with its exit code."""
        _set_stack_size(self.loaded.config)
        # A thread that is no daemon would keep a process alive whose reactor has died.
        threading.Thread(target=self._main, name="patroni", daemon=True).start()

    @property
    def constructed(self) -> bool:
        """Whether upstream's constructor is through; before that it cannot be interrupted."""
        return self._daemon is not None

    def reload(self) -> None:
        """Have the configuration reloaded between two HA cycles, as SIGHUP does."""
        self._reloading = True
        if self._daemon is not None:
            self._daemon.sighup_handler()

    def stop(self) -> None:
        """Let the engine shut down after the cycle it is in; :attr:`ended` tells when."""
        self._stopping = True
        daemon = self._daemon
        if daemon is not None:
            daemon.api_sigterm()
            daemon.dcs.event.set()

    def _main(self) -> None:
        code = 0
        try:
            daemon = self._daemon = self._construct()
            # What is there now stays for good: a full garbage collection, which halts the reactor
            # and the HA loop, need not look at it each time.
            gc.collect()
            gc.freeze()
            if self._reloading:
                self.reload()
            if self._stopping:
                self.stop()
            try:
                daemon.run()
            except BaseException as error:
                # Told before the shutdown, which ends the log.
                code = _exit_code(error)
            daemon.shutdown()
        except BaseException as error:
            code = _exit_code(error)
        self.reactor.callFromThread(self.ended.callback, code)

    def _construct(self) -> Patroni:
        """Build upstream's daemon with our API in the place of its own."""

        def seat(daemon: Patroni, section: Mapping[str, Any]) -> ApiSeat:
            engine = EngineAdapter(daemon, self.lanes, self._report_look, self.reactor)
            engine.observe_looks()
            return self.make_api(engine, section)

        upstream_api = patroni.api.RestApiServer
        patroni.api.RestApiServer = seat  # type: ignore[assignment,misc]
        try:
            daemon = Patroni(self.loaded.config, self.loaded.logger)
        finally:
            patroni.api.RestApiServer = upstream_api  # type: ignore[misc]
        daemon.observe_cycles(self._report_cycle, self.reactor.seconds)
        observe_stirs(daemon, self._report_stir)
        return daemon

    def _report_look(self, look: Look) -> None:
        self.reactor.callFromThread(self.looked, look)

    def _report_cycle(self, cycle: Cycle) -> None:
        self.reactor.callFromThread(self.cycled, cycle)

    def _report_stir(self, stir: Stir) -> None:
        self.reactor.callFromThread(self.stirred, stir)


def _exit_code(error: BaseException) -> int:
    """Tell why the engine ends, and return the exit code that Python would make of it."""
    log = logging.getLogger(__name__)
    match error:
        case SystemExit(code=None | 0):
            log.warning("The engine has ended")
            return 0
        case SystemExit(code=int(code)):
            log.critical("The engine has ended with exit code %s", code)
            return code
        case SystemExit(code=reason) | UnusableConfiguration(args=(reason,)):
            log.critical("%s", reason)
        case _:
            log.exception("The engine has failed")
    return 1
