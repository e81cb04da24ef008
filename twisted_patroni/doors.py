"""The listeners: opened before they are answered, given other rules on a reload, and closed."""

from __future__ import annotations

import os
from socket import AF_INET, AF_INET6, socket
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from twisted_patroni.listening import set_connection_options
from twisted_patroni.settings import DoorSettings, Serves, Settings, SettingsError
from twisted_patroni.web.connections import is_loopback
from twisted_patroni.web.entrance import Door, Entrance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from OpenSSL import SSL
    from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

    from twisted_patroni.settings import VerifyClient
    from twisted_patroni.web.site import ApiSite

    Contexts = Mapping[VerifyClient, SSL.Context]

_log = Logger()


def parse_endpoint(reactor: Any, settings: DoorSettings) -> IStreamServerEndpoint:
    """Return the endpoint that an endpoint string describes.

    :param reactor: the reactor it would listen with.
    :param settings: the listener's settings.
    :raise SettingsError: if Twisted does not understand it.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, settings.endpoint)
    except Exception as error:  # each kind of endpoint has its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(
            f"restapi.endpoints: Twisted does not understand {settings.endpoint!r} ({reason})"
        ) from error
    return endpoint


@frozen
class _Listening:
    door: Door
    port: IListeningPort


@define(eq=False)
class Doors:
    """All listeners of one API.

    :param reactor: the reactor, which accepts connections.
    :param site: where they lead.
    :ivar main: the rules of ``restapi.listen``.
    """

    reactor: Any
    site: ApiSite
    main: Door = field(factory=Door, init=False)
    _main_port: IListeningPort | None = field(default=None, init=False)
    _further: dict[str, _Listening] = field(factory=dict, init=False)
    _answering: bool = field(default=False, init=False)

    async def apply(self, settings: Settings, contexts: Contexts) -> None:
        """Open, change and close listeners; a connection that exists stays as it is.

        New ones are opened before anything else changes; if one cannot be, nothing has changed.

        :param settings: the settings.
        :param contexts: what TLS connections begin with, empty without TLS.
        :raise SettingsError: if a listener cannot be opened; the text names it.
        """
        wanted = {each.endpoint: each for each in settings.doors}
        self._further.update(await self._open(settings, contexts))
        _dress(self.main, settings, contexts)
        for name, each in wanted.items():
            _dress(self._further[name].door, settings, contexts, each)
        for name in self._further.keys() - wanted.keys():
            _stop(self._further.pop(name).port)

    async def _open(self, settings: Settings, contexts: Contexts) -> dict[str, _Listening]:
        """Open the listeners that are new, each with its rules from its first connection on."""
        opened: dict[str, _Listening] = {}
        try:
            for each in settings.doors:
                if each.endpoint in self._further:
                    continue
                door = Door()
                _dress(door, settings, contexts, each)
                endpoint = parse_endpoint(self.reactor, each)
                port = await endpoint.listen(Entrance(self.site, door))
                opened[each.endpoint] = _Listening(door, port)
                _prepare(port)
                if not self._answering:
                    _pause(port)
        except Exception as error:
            for listening in opened.values():
                _stop(listening.port)
            if isinstance(error, SettingsError):
                raise
            reason = getattr(error, "socketError", error)
            reason = getattr(reason, "strerror", None) or reason
            raise SettingsError(
                f"restapi.endpoints: cannot listen on {each.endpoint!r} ({reason})"
            ) from error
        return opened

    def adopt(self, listener: socket) -> None:
        """Answer on a socket in the place of the main one so far, which is closed after that.

        :param listener: a listening socket, which is closed here.
        """
        earlier, self._main_port = self._main_port, None
        with listener:
            self._main_port = self.reactor.adoptStreamPort(
                listener.fileno(), listener.family, Entrance(self.site, self.main)
            )
        if earlier is not None:
            _stop(earlier)

    def answer(self) -> None:
        """Begin to accept connections at the further listeners."""
        self._answering = True
        for listening in self._further.values():
            _resume(listening.port)

    def unguarded(self, settings: Settings) -> list[str]:
        """Name the listeners where anybody in the network may do everything.

        :param settings: what may guard them.
        """
        names = [settings.listen_text] if settings.open_to_network else []
        for name, listening in self._further.items():
            host = getattr(listening.port.getHost(), "host", "")
            door = listening.door
            if door.serves is Serves.ALL and not settings.guards(door.verify_client):
                names += [] if is_loopback(host) else [name]
        return names

    def listener(self) -> socket | None:
        """Return a copy of the main socket, which the caller closes soon."""
        port: Any = self._main_port  # the reactor's own, which are descriptors as well
        return None if port is None else socket(fileno=os.dup(port.fileno()))

    def close(self) -> Deferred[Any]:
        """Stop listening at once.

        :return: fires when that is done; never fails.
        """
        ports = [each.port for each in self._further.values()]
        if self._main_port is not None:
            ports.append(self._main_port)
        self._main_port = None
        self._further.clear()
        return DeferredList([_stop(port) for port in ports])


def _dress(
    door: Door, settings: Settings, contexts: Contexts, own: DoorSettings | None = None
) -> None:
    """Give a door the rules that the settings have for it."""
    tls = bool(contexts) if own is None else own.tls
    door.name = settings.listen_text if own is None else own.endpoint
    door.serves = Serves.ALL if own is None else own.serves
    door.verify_client = settings.verify_client if own is None else own.verify_client
    door.proxies = None if own is None else own.proxies
    door.context = contexts[door.verify_client] if tls else None
    door.extra_headers = settings.headers(tls)


def _prepare(port: Any) -> None:
    """Set the options of its connections, where the port is one of TCP."""
    family = getattr(port, "addressFamily", None)
    if family in (AF_INET, AF_INET6):
        with socket(fileno=os.dup(port.fileno())) as listener:
            set_connection_options(listener)


def _pause(port: IListeningPort) -> None:
    """Let the kernel keep connections until somebody answers them, where the port can do that."""
    if hasattr(port, "stopReading"):
        port.stopReading()


def _resume(port: IListeningPort) -> None:
    if hasattr(port, "startReading"):
        port.startReading()


def _stop(port: IListeningPort) -> Deferred[Any]:
    stopped = maybeDeferred(port.stopListening)
    return stopped.addErrback(lambda failure: _log.failure("Closing a listener failed", failure))
