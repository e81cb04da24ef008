"""The listening socket: opened before anything is answered, with options that accepts inherit."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted_patroni.settings import Settings

# A peer that has vanished is noticed within ten seconds (contract: sockets and threads).
_USER_TIMEOUT_MS = 10_000
_KEEPALIVE_IDLE_S = 3
_KEEPALIVE_INTERVAL_S = 2
_KEEPALIVE_COUNT = 3
# What a client does not read piles up in the kernel, by megabytes, before anybody is told to stop:
# thousands of answers for each client that sends requests and never reads.
_UNSENT_BYTES = 16 * 1024


def open_listener(settings: Settings, former: socket.socket | None = None) -> socket.socket:
    """Open the socket that the settings ask for; may wait for DNS.

    An empty host means every address, of IPv4 and IPv6 alike where the kernel can do that.

    :param settings: the address and the backlog.
    :param former: the socket listened on so far, which may have the same port on other addresses.
    :raise OSError: if the address cannot be had; the text names it and the setting.
    """
    host, port = settings.listen.host or None, settings.listen.port
    dual_stack = socket.has_dualstack_ipv6()
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP
        )
        # IPv6 first where such a socket serves both, else IPv4 first.
        found.sort(key=lambda entry: (entry[0] == socket.AF_INET) == dual_stack)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except UnicodeError as error:  # what looks like a name, but cannot be one ("node..1")
        raise OSError(errno.EINVAL, _complaint(settings, "not a host name")) from error
    except OSError as error:
        raise OSError(error.errno, _complaint(settings, str(error.strerror))) from error
    try:
        _set_options(listener, dual_stack and host is None)
        for one in (former, listener) if former is not None else ():
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(settings.backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, _complaint(settings, str(error.strerror))) from error
    return listener


def _complaint(settings: Settings, reason: str) -> str:
    return (
        f"Couldn't start a service on '{settings.listen_text}' ({reason}),"
        " please check your `restapi.listen` configuration"
    )


def _set_options(listener: socket.socket, dual_stack: bool) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
    set_connection_options(listener)


def set_connection_options(listener: socket.socket) -> None:
    """Set what the connections of a listener inherit.

    :param listener: a listening TCP socket.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_NOTSENT_LOWAT", _UNSENT_BYTES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
