"""Times a change of leaders from outside: the answer, the leader key, the first write, events.

Everything is seen by one event loop, so that all moments are of one clock: what comes by itself
(answers, the DCS's watch, events) when it comes, and what has to be asked for every
:data:`PACE` seconds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import field, frozen

from benchmarks.clients import HOST
from benchmarks.ways import Answer, EventSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

#: Seconds between two questions.
PACE = 0.005
#: Seconds after which what has not been seen will not be.
PATIENCE = 60.0
_SIZE = 1 << 16
#: What is written again and again, until it can be.
TABLE = "CREATE TABLE IF NOT EXISTS switchovers (moment timestamptz)"
_WRITE = "INSERT INTO switchovers VALUES (clock_timestamp())"


@frozen
class Course:
    """A switchover or a failover to be timed.

    :param request: what to send; nothing if it is done without asking.
    :param asked: the port of the node that is asked.
    :param candidate: the name of the node that is to lead.
    :param port: the port of its API.
    :param conninfo: how to connect to its PostgreSQL.
    :param etcd: the port of the DCS.
    :param key: the leader key.
    :param followed: the ports of APIs whose events are followed, by what to call them.
    :param act: called at the beginning.
    """

    request: bytes
    asked: int
    candidate: str
    port: int
    conninfo: str
    etcd: int
    key: str
    followed: Mapping[str, int] = field(factory=dict)
    act: Callable[[], object] | None = None


@frozen
class Moments:
    """When what was seen, in seconds of the monotonic clock; what is missing was not.

    :param code: the status of the answer, 0 if there was none.
    :param text: the answer.
    :param begun: when the request was sent.
    :param seen: everything else, by name.
    """

    code: int
    text: str
    begun: float
    seen: Mapping[str, float]

    def after(self, name: str, since: str = "") -> float | None:
        """Return how many milliseconds after something something else was, if both were.

        :param name: what was later.
        :param since: what was earlier; by default the request.
        """
        begun = self.seen.get(since) if since else self.begun
        end = self.seen.get(name)
        return None if begun is None or end is None else 1000 * (end - begun)


def timed(course: Course) -> Moments:
    """Switch over, and return when what was seen; blocks.

    :param course: the switchover.
    """
    return asyncio.run(_timed(course))


async def _timed(course: Course) -> Moments:
    async with AsyncExitStack() as stack:
        watches = {
            "key": await _key(stack, course),
            "write": await _write(stack, course),
            "truth": _truth(course),
            **{
                name: await _event(stack, port, course.candidate)
                for name, port in course.followed.items()
            },
        }
        asking = await _connect(stack, course.asked) if course.request else None
        begun = time.monotonic()
        if course.act is not None:
            course.act()
        answer = asyncio.create_task(_answer(asking, course.request))
        tasks = {name: asyncio.create_task(_moment(watch)) for name, watch in watches.items()}
        await asyncio.wait([answer, *tasks.values()], timeout=PATIENCE)
        for task in (answer, *tasks.values()):
            task.cancel()
        await asyncio.wait([answer, *tasks.values()])
        seen = {name: end for name, task in tasks.items() if (end := _result(task)) is not None}
        code, text, end = _result(answer) or (0, "", 0.0)
    return Moments(code, text, begun, {**seen, "answer": end} if code else seen)


def _result(task: asyncio.Task[Any]) -> Any:
    return None if task.cancelled() or task.exception() else task.result()


async def _moment(watch: Awaitable[bool]) -> float | None:
    """Return when something was seen."""
    return time.monotonic() if await watch else None


async def _connect(
    stack: AsyncExitStack, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, port)
    stack.callback(writer.close)
    return reader, writer


async def _answer(
    asking: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, request: bytes
) -> tuple[int, str, float]:
    if asking is None:
        return 0, "", time.monotonic()
    reader, writer = asking
    writer.write(request)
    answer, body = Answer(), b""
    while not answer.done and (data := await reader.read(_SIZE)):
        body += answer.feed(data)
    return answer.code, body.decode(), time.monotonic()


async def _key(stack: AsyncExitStack, course: Course) -> Coroutine[Any, Any, bool]:
    """Watch the leader key, until the candidate has it."""
    reader, writer = await _connect(stack, course.etcd)
    key = base64.b64encode(course.key.encode()).decode()
    body = json.dumps({"create_request": {"key": key}})
    head = f"POST /v3/watch HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readline()  # says that the watch begins

    async def watch() -> bool:
        while line := await reader.readline():
            if course.candidate in values_of(json.loads(line)):
                return True
        return False

    return watch()


def values_of(message: Mapping[str, Any]) -> list[str]:
    """Return the values that a message of etcd's watch says have been written.

    :param message: the message.
    """
    events = message.get("result", {}).get("events", ())
    return [
        base64.b64decode(event["kv"]["value"]).decode()
        for event in events
        if event.get("type") != "DELETE" and "value" in event["kv"]
    ]


async def _write(stack: AsyncExitStack, course: Course) -> Coroutine[Any, Any, bool]:
    """Try to write to the candidate's PostgreSQL, until that succeeds."""

    async def connect() -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(course.conninfo, autocommit=True)
        stack.push_async_callback(connection.close)
        return connection

    connection = await connect()

    async def watch() -> bool:
        nonlocal connection
        while True:
            with suppress(psycopg.Error):
                if connection.closed:
                    connection = await connect()
                await connection.execute(_WRITE)
                return True
            await asyncio.sleep(PACE)

    return watch()


async def _truth(course: Course) -> bool:
    """Ask the candidate whether it is the primary, until it says so."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, course.port)
            try:
                writer.write(b"GET /primary HTTP/1.0\r\n\r\n")
                if b" 200 " in await reader.readline():
                    return True
            finally:
                writer.close()
        await asyncio.sleep(PACE)


async def _event(stack: AsyncExitStack, port: int, candidate: str) -> Coroutine[Any, Any, bool]:
    """Follow a node's events, until one says that the candidate leads."""
    reader, writer = await _connect(stack, port)
    source = EventSource()
    writer.write(source.begin())
    while not source.code and (data := await reader.read(_SIZE)):
        source.feed(data)

    async def watch() -> bool:
        while source.code == 200 and (data := await reader.read(_SIZE)):
            for document in source.feed(data)[0]:
                if document["type"] == "leader" and document["data"]["new"] == candidate:
                    return True
        return False

    return watch()
