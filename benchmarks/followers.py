"""Many subscribers in one process, which write down when each event has reached each of them.

Run as a child process, ``python -m benchmarks.followers PORT WAY SIZE``. It reads words, one a
line, from its standard input: ``cut`` ends all connections and makes all new ones at once,
``tell`` and ``events`` have it print a line of JSON.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
import time
from collections import Counter, deque
from datetime import datetime
from typing import Any

from attrs import define, field

from benchmarks.clients import HOST
from benchmarks.ways import WAYS, Tally, Way

#: How many connect at a time when the crowd arrives.
_ARRIVING = 50
#: Seconds until a follower who was turned away or dropped comes again.
_AGAIN = 0.1
_SIZE = 1 << 16
#: Received pieces that are read before the sockets are looked at again.
_PIECES = 20
_COMMANDS = 0


@define(eq=False)
class Follower:
    """One subscriber's place.

    :param way: how he follows.
    :ivar connection: his present connection.
    :ivar asked: it is made, and he has asked.
    :ivar back: he has been sent an event since all connections were cut.
    """

    way: Way
    connection: socket.socket | None = None
    asked: bool = False
    back: bool = False


@define(eq=False)
class Crowd:
    """All subscribers, and their sockets.

    A piece that has come is given its time at once and is read later, so that the time that
    reading takes does not count for those who are looked at next.

    :param port: the server's port.
    :param way: how they follow.
    :param size: how many they are.
    """

    port: int
    way: str
    size: int
    _followers: list[Follower] = field(init=False)
    _poll: select.epoll = field(factory=select.epoll, init=False)
    _by_number: dict[int, Follower] = field(factory=dict, init=False)
    _outside: deque[Follower] = field(init=False)
    _again: deque[tuple[float, Follower]] = field(factory=deque, init=False)
    _pieces: deque[tuple[Follower, bytes, float]] = field(factory=deque, init=False)
    _tally: Tally = field(factory=Tally, init=False)
    _ended: Counter[str] = field(factory=Counter, init=False)
    _connecting: int = field(default=0, init=False)
    _cut: float = field(default=0.0, init=False)
    _back: list[float] = field(factory=list, init=False)
    _words: bytes = field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        self._followers = [Follower(WAYS[self.way]()) for _ in range(self.size)]
        self._outside = deque(self._followers)

    def run(self) -> None:
        """Follow until the standard input ends."""
        self._poll.register(_COMMANDS, select.EPOLLIN)
        lasting = True
        while lasting:
            self._connect_some()
            hurry = self._pieces or self._again
            ready = self._poll.poll(0 if self._pieces else _AGAIN / 2 if hurry else None)
            for number, _ in ready:
                if number == _COMMANDS:
                    lasting = self._obey()
                elif number in self._by_number:
                    self._look(self._by_number[number])
            if not ready:
                self._read(_PIECES)

    def _connect_some(self) -> None:
        now = time.time()
        while self._again and self._again[0][0] <= now:
            self._outside.append(self._again.popleft()[1])
        while self._outside and self._connecting < _ARRIVING:
            self._connect(self._outside.popleft())

    def _connect(self, follower: Follower) -> None:
        follower.connection = connection = socket.socket()
        follower.asked = False
        connection.setblocking(False)
        connection.connect_ex((HOST, self.port))
        self._connecting += 1
        self._by_number[connection.fileno()] = follower
        self._poll.register(connection, select.EPOLLOUT)

    def _look(self, follower: Follower) -> None:
        assert follower.connection is not None
        try:
            if not follower.asked:
                self._ask(follower)
                return
            data = follower.connection.recv(_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(follower, type(error).__name__)
            return
        if data:
            self._pieces.append((follower, data, time.time()))
        else:
            self._lose(follower, "closed")

    def _ask(self, follower: Follower) -> None:
        assert follower.connection is not None
        follower.connection.sendall(follower.way.begin())
        follower.asked = True
        self._connecting -= 1
        self._poll.modify(follower.connection, select.EPOLLIN)

    def _lose(self, follower: Follower, why: str) -> None:
        self._read(len(self._pieces))
        if follower.connection is None:
            return  # by what it has just been sent
        self._ended[why] += 1
        self._close(follower)
        self._again.append((time.time() + _AGAIN, follower))

    def _close(self, follower: Follower) -> None:
        if follower.connection is not None:
            self._connecting -= not follower.asked
            del self._by_number[follower.connection.fileno()]
            follower.connection.close()
            follower.connection = None
            follower.way.code = 0

    def _read(self, count: int) -> None:
        for _ in range(min(count, len(self._pieces))):
            follower, data, moment = self._pieces.popleft()
            if follower.connection is None:
                continue
            documents, reply = follower.way.feed(data)
            for document in documents:
                event = self._tally.heard(follower.way, document, moment)
                if event and not follower.back:
                    follower.back = True
                    self._back.append(moment)
            if follower.way.code not in (0, 101, 200):
                self._lose(follower, f"status {follower.way.code}")
            elif reply:
                self._reply(follower, reply)

    def _reply(self, follower: Follower, reply: bytes) -> None:
        assert follower.connection is not None
        try:
            follower.connection.sendall(reply)
        except OSError as error:
            self._lose(follower, type(error).__name__)

    def _obey(self) -> bool:
        data = os.read(_COMMANDS, 4096)
        *words, self._words = (self._words + data).split(b"\n")
        for word in words:
            self._read(len(self._pieces))
            getattr(self, f"_do_{word.decode()}")()
        return bool(data)

    def _do_cut(self) -> None:
        """End all connections, and make all new ones."""
        for follower in self._followers:
            self._close(follower)
            follower.back = False
        self._outside.clear()
        self._again.clear()
        self._back.clear()
        self._cut = time.time()
        for follower in self._followers:
            self._connect(follower)

    def _do_tell(self) -> None:
        newest = max(follower.way.number for follower in self._followers)
        self._say(
            present=sum(bool(follower.way.code) for follower in self._followers),
            newest=newest,
            behind=sum(newest - follower.way.number for follower in self._followers),
            lost=self._tally.lost,
            twice=self._tally.twice,
            gaps=self._tally.gaps,
            ended=self._ended,
            back=len(self._back),
            last_back=self._back[-1] - self._cut if self._back else None,
        )

    def _do_events(self) -> None:
        self._say(events=[delays(*each) for each in self._tally.arrivals.values()])

    def _say(self, **values: Any) -> None:
        print(json.dumps(values), flush=True)


def delays(published: str, arrivals: list[float]) -> tuple[int, float, float]:
    """Return how many have had an event, and the seconds until the median and the last one did.

    :param published: when it was published, in ISO 8601.
    :param arrivals: when each of them had it.
    """
    begun = datetime.fromisoformat(published).timestamp()
    ordered = sorted(arrivals)
    middle = ordered[len(ordered) // 2]
    return len(ordered), middle - begun, ordered[-1] - begun


def main(port: str, way: str, size: str) -> None:
    """Follow until the standard input ends.

    :param port: the server's port.
    :param way: one of :data:`~benchmarks.ways.WAYS`.
    :param size: how many follow.
    """
    crowd = Crowd(int(port), way, int(size))
    gc.disable()  # its pauses would count as the server's
    crowd.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
