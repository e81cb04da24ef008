"""The API in the hands of upstream's daemon, in the place of its own API server.

Every method is called in the engine's thread and hops to the reactor's; each hop has a deadline,
for nothing that clients do may hold the engine up.
"""

from __future__ import annotations

import queue
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_patroni import tls
from twisted_patroni.fitness import CtlFacts, misfits
from twisted_patroni.listening import open_listener
from twisted_patroni.renewal import load
from twisted_patroni.restapi import GRACE
from twisted_patroni.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket

    from twisted_patroni.restapi import RestApi
    from twisted_patroni.tls import TlsMaterial

_log = Logger()

#: Seconds that the engine's thread waits for the reactor's at most.
HOP_DEADLINE = GRACE + 3.0


@define(eq=False)
class ApiSeat:
    """What upstream's daemon holds.

    :param reactor: the reactor.
    :param make_api: builds the API from valid settings, in the reactor's thread.
    :param section: the ``restapi`` section.
    :param version: the engine's version.
    :param ctl: returns the ``ctl`` section, for clients of this node have it as well.
    """

    reactor: Any
    make_api: Callable[[Settings], RestApi]
    section: Mapping[str, Any]
    version: str
    ctl: Callable[[], Mapping[str, Any]]
    _settings: Settings = field(init=False)
    _reload_failed: bool = field(default=False, init=False)
    _listener: socket = field(init=False)
    _api: RestApi = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._settings = Settings.of(self.section, self.version)
        material = load(self._settings)
        self._listener = open_listener(self._settings)
        try:
            self._api = self._hop(self.make_api, self._settings)
            self._hop(self._api.apply, self._settings, material)
            self._warn(self._settings, material)
        except BaseException:
            self._listener.close()
            raise

    @property
    def connection_string(self) -> str:
        """The URL that this member publishes as its ``api_url``."""
        return self._settings.connection_string

    def start(self) -> None:
        """Begin to answer requests."""
        self._hop(self._api.open, self._listener)

    def shutdown(self) -> None:
        """Stop answering; returns in bounded time, whatever the reactor or clients do."""
        self._listener.close()  # in case it was never opened for requests
        self._hop(self._api.close)

    def reload_config(self, config: Mapping[str, Any]) -> None:
        """Apply a changed section; one that is wrong is logged, and the one in use stays.

        It does not raise: upstream would leave PostgreSQL, watchdog and DCS without their part of
        the same reload.

        :param config: the section.
        """
        self._reload_failed = True
        listener: socket | None = None
        try:
            settings = Settings.of(config, self.version)
            material = load(settings)
            if settings.listen != self._settings.listen:
                listener = self._open(settings)
            self._hop(self._api.apply, settings, material, listener)
        except (SettingsError, OSError) as error:
            if listener is not None:
                listener.close()
            self._count("failure")
            reason = getattr(error, "strerror", None) or error
            _log.error("The restapi section is not reloaded: {reason}", reason=reason)
        else:
            self._settings = settings
            self._reload_failed = False
            self._count("success")
            self._warn(settings, material)

    def _warn(self, settings: Settings, material: TlsMaterial | None) -> None:
        """Say in the log which clients will fail, before their users wonder."""
        for line in misfits(settings, material, CtlFacts.read(self.ctl())):
            _log.warn("{line}", line=line)

    def _count(self, result: str) -> None:
        self.reactor.callFromThread(self._api.reloads.update, [result])

    def _open(self, settings: Settings) -> socket:
        former: socket | None = self._hop(self._api.doors.listener)
        with nullcontext() if former is None else former:
            return open_listener(settings, former)

    def reload_local_certificate(self) -> bool:
        """Tell whether SIGHUP must apply an unchanged section.

        It must if a file of TLS has changed, or if the last time failed.
        """
        if self._settings.tls is None or self._reload_failed:
            return self._reload_failed
        with suppress(SettingsError):
            material = self._api.material
            return material is None or material.digest != tls.digest(self._settings.tls)
        return True

    def _hop(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the reactor's thread and wait for its result, but not for ever."""
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.reactor.callFromThread(lambda: maybeDeferred(function, *args).addBoth(results.put))
        try:
            result = results.get(timeout=HOP_DEADLINE)
        except queue.Empty:
            raise TimeoutError("the reactor did not answer the engine in time") from None
        if isinstance(result, Failure):
            result.raiseException()
        return result
