"""Clients that are in the way: idle connections, and requests that wait for their answer."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

HOST = "127.0.0.1"
#: Seconds after which a server counts as one that does not answer.
NO_ANSWER_AFTER = 5.0


def answers(port: int, path: str = "/primary") -> bool:
    """Tell whether a server answers within :data:`NO_ANSWER_AFTER`.

    :param port: its port.
    :param path: what to ask for.
    """
    try:
        with socket.create_connection((HOST, port), NO_ANSWER_AFTER) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return client.recv(16).startswith(b"HTTP/1.")
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition.

    :param condition: the condition.
    :param seconds: how long to wait at most.
    :param what: what is waited for, in the words of the error.
    :raise TimeoutError: if it takes longer.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


@define(eq=False)
class Crowd:
    """Connections that are open while the context lasts.

    :param port: where to.
    :param request: what each sends.
    :param size: how many.
    :param pause: seconds between two of them.
    """

    port: int
    request: bytes
    size: int
    pause: float = 0.0
    _sockets: list[socket.socket] = field(factory=list, init=False)

    def __enter__(self) -> Crowd:
        # One that cannot connect in time is a client that waits to be accepted.
        with suppress(TimeoutError):
            for _ in range(self.size):
                client = socket.socket()
                self._sockets.append(client)
                client.settimeout(NO_ANSWER_AFTER)
                client.connect((HOST, self.port))
                client.sendall(self.request)
                time.sleep(self.pause)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._sockets:
            client.close()

    def greet(self) -> None:
        """Read the answer to what each has sent; it has no body."""
        for client in self._sockets:
            answer = client.recv(4096)
            while answer and b"\r\n\r\n" not in answer:
                answer += client.recv(4096)

    def waiting(self) -> int:
        """Return how many are open and have nothing to read."""
        count = 0
        for client in self._sockets:
            client.setblocking(False)
            try:
                client.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                count += 1
            except OSError:
                pass
        return count


def idle(port: int, size: int, *, kept_alive: bool) -> Crowd:
    """Return clients that only hold a connection.

    A server that keeps connections alive has each of them left idle after one answered request.
    One that does not gets connections on which nothing is sent, for it has no other idle ones.

    :param port: where to.
    :param size: how many.
    :param kept_alive: the server keeps connections alive.
    """
    question = b"GET /liveness HTTP/1.1\r\nHost: idle\r\n\r\n" if kept_alive else b""
    return Crowd(port, question, size)
