"""Tests of twisted_patroni.listening with real sockets on the loopback addresses."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_patroni.listening import open_listener
from twisted_patroni.settings import HostPort, Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def listener(host: str, port: int = 0) -> AbstractContextManager[socket.socket]:
    """Open a listener on a free port of a host."""
    text = f"{host}:{port}"
    return open_listener(Settings(HostPort(host, port), text, text))


def option(opened: socket.socket, level: int, name: str) -> int:
    """Read a socket option."""
    return opened.getsockopt(level, getattr(socket, name))


class OpenListenerTests(SynchronousTestCase):
    """Listening sockets."""

    def test_accepts(self) -> None:
        """A client can connect at once, before anything reads from the socket."""
        with listener("127.0.0.1") as opened:
            self.assertEqual(opened.family, socket.AF_INET)
            self.assertFalse(opened.getblocking())
            self.assertFalse(opened.get_inheritable())
            with socket.create_connection(opened.getsockname(), timeout=5):
                pass

    def test_options_are_inherited(self) -> None:
        """An accepted connection has the options that notice a dead peer."""
        with listener("127.0.0.1") as opened:
            self.assertTrue(option(opened, socket.SOL_SOCKET, "SO_REUSEADDR"))
            with socket.create_connection(opened.getsockname(), timeout=5):
                opened.settimeout(5)
                accepted, _ = opened.accept()
                with accepted:
                    self.assertTrue(option(accepted, socket.SOL_SOCKET, "SO_KEEPALIVE"))
                    for name, expected in (
                        ("TCP_USER_TIMEOUT", 10000),
                        ("TCP_KEEPIDLE", 3),
                        ("TCP_KEEPINTVL", 2),
                        ("TCP_KEEPCNT", 3),
                    ):
                        if hasattr(socket, name):
                            value = option(accepted, socket.IPPROTO_TCP, name)
                            self.assertEqual(value, expected, name)

    def test_every_address(self) -> None:
        """Without a host, IPv4 and IPv6 clients reach the same port where the kernel can."""
        if not socket.has_dualstack_ipv6():
            raise SkipTest("no dual-stack sockets here")
        with listener("") as opened:
            port = opened.getsockname()[1]
            for address in ("127.0.0.1", "::1"):
                with socket.create_connection((address, port), timeout=5):
                    pass

    def test_one_ipv6_address(self) -> None:
        """An IPv6 address is served alone."""
        if not socket.has_dualstack_ipv6():
            raise SkipTest("no IPv6 here")
        with listener("::1") as opened:
            self.assertEqual(opened.family, socket.AF_INET6)
            self.assertTrue(option(opened, socket.IPPROTO_IPV6, "IPV6_V6ONLY"))

    def test_busy(self) -> None:
        """A port in use is an error that names the address and the setting."""
        with listener("127.0.0.1") as opened:
            port = opened.getsockname()[1]
            error = self.assertRaises(OSError, listener, "127.0.0.1", port)
        self.assertEqual(error.errno, errno.EADDRINUSE)
        self.assertIn(f"Couldn't start a service on '127.0.0.1:{port}'", str(error))
        self.assertIn("please check your `restapi.listen` configuration", str(error))

    def test_unknown_address(self) -> None:
        """An address that is not on this machine, or not an address, is the same kind of error."""
        for host in ("192.0.2.1", "node..1"):
            error = self.assertRaises(OSError, listener, host)
            self.assertIn(f"Couldn't start a service on '{host}:0'", str(error), host)
