"""The same bytes to two servers, and in which respects their replies differ."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

if TYPE_CHECKING:
    from tests.real.parity_requests import Request

#: Headers that say where a reply ends, which both servers do in their own way.
_FRAMING = frozenset({"content-length", "connection"})
_CONTINUE = b"HTTP/1.1 100 "
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) (\d{3}) (.*)")
#: JSON values that change from one moment to the next: only their type is compared.
_VOLATILE = re.compile(r"dcs_last_seen|(received_|replayed_)?location|replayed_timestamp")
_VOLATILE_METRICS = re.compile(r"patroni_(dcs_last_seen|xlog_\w+location|xlog_replayed_timestamp)")


@frozen
class Reply:
    """What came back on one connection.

    :param version: of the status line, empty if there was none.
    :param status: the status, 0 if there was no status line.
    :param reason: its phrase.
    :param headers: names as sent and values, in order.
    :param body: the rest.
    :param closed: the server ended the connection.
    :param interim: the client was told to go on before the reply.
    """

    version: str = ""
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    closed: bool = True
    interim: bool = False

    def values(self, name: str) -> tuple[str, ...]:
        """Return a header's values, in the order sent.

        :param name: in any case.
        """
        return tuple(value for key, value in self.headers if key.lower() == name.lower())

    def __str__(self) -> str:
        return f"{self.version} {self.status} {self.reason} {self.headers} {self.body[:300]!r}"

    @property
    def names(self) -> tuple[str, ...]:
        """The headers' names in lower case, in the order sent, without those that frame."""
        lower = (name.lower() for name, _ in self.headers)
        return tuple(name for name in lower if name not in _FRAMING)


def _parse(data: bytes, closed: bool) -> Reply:
    interim = data.startswith(_CONTINUE)
    if interim:
        data = data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return Reply(body=data, closed=closed)
    headers = []
    for each in rest:
        name, _, value = each.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    version, status, reason = (part.decode("latin-1") for part in match.groups())
    return Reply(version, int(status), reason, tuple(headers), body, closed, interim)


def _complete(data: bytes, method: bytes) -> bool:
    """Tell whether a reply that may be followed by another one is there in full."""
    reply = _parse(data, closed=False)
    length = reply.values("Content-Length")
    says_close = "close" in reply.values("Connection")
    if reply.version != "HTTP/1.1" or not length or says_close:
        return False  # it ends with the connection
    return method == b"HEAD" or len(reply.body) >= int(length[0])


def ask(port: int, request: Request) -> Reply:
    """Send a request and return the reply.

    :param port: of the server, on the loopback interface.
    :param request: what to send.
    """
    data = b""
    method = request.raw.partition(b" ")[0]
    with socket.create_connection(
        ("127.0.0.1", port), request.patience, (request.source, 0)
    ) as connection:
        # A server may close without reading a body to its end.
        with suppress(ConnectionError):
            connection.sendall(request.raw)
            if request.half_close:
                connection.shutdown(socket.SHUT_WR)
        try:
            while not _complete(data, method):
                received = connection.recv(65536)
                if not received:
                    return _parse(data, closed=True)
                data += received
        except TimeoutError:
            return Reply(reason="silence", closed=False)
        except ConnectionError:
            return _parse(data, closed=True)
    reply = _parse(data, closed=False)
    return evolve(reply, body=reply.body[: int(reply.values("Content-Length")[0])])


def _masked(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {each: _masked(inner, each) for each, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    volatile = _VOLATILE.fullmatch(key) and value != "unknown"
    return type(value).__name__ if volatile else value


def _document(reply: Reply) -> str:
    """Return a JSON body in which nothing changes from one moment to the next, keys in order."""
    try:
        return json.dumps(_masked(json.loads(reply.body)))
    except ValueError:  # more than one document: more than one reply
        return reply.body.decode("latin-1")


def _metric_lines(text: str) -> set[str]:
    lines = set()
    for line in text.splitlines():
        name = line.partition("{")[0]
        if line.startswith("# HELP"):
            continue
        lines.add(name if _VOLATILE_METRICS.fullmatch(name) else line)
    return lines


def _metric_helps(text: str) -> dict[str, str]:
    found = re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)
    return dict(found)


def _metrics_differences(theirs: str, ours: str) -> set[str]:
    found = set()
    known, wanted = _metric_lines(ours), _metric_lines(theirs)
    if wanted - known:
        found.add("body")
    if known - wanted:
        found.add("more metrics")
    helps = _metric_helps(ours)
    if any(helps.get(name) != text for name, text in _metric_helps(theirs).items()):
        found.add("metrics' help")
    return found


def _body_differences(theirs: Reply, ours: Reply) -> set[str]:
    if theirs.body == ours.body:
        return set()
    kind = theirs.values("Content-Type")
    if kind == ours.values("Content-Type") == ("application/json",):
        return {"body"} if _document(theirs) != _document(ours) else set()
    if kind == ours.values("Content-Type") == ("text/plain",):
        return _metrics_differences(theirs.body.decode(), ours.body.decode())
    return {"body"}


def _header_differences(theirs: Reply, ours: Reply) -> set[str]:
    found = set()
    for name in sorted({*theirs.names, *ours.names}):
        values = [each.values(name) for each in (theirs, ours)]
        if name == "date":
            values = [(str(len(each)),) for each in values]
        if values[0] != values[1]:
            found.add(f"header {name.title()}")
    common = set(theirs.names) & set(ours.names)
    orders = [[name for name in each.names if name in common] for each in (theirs, ours)]
    if orders[0] != orders[1]:
        found.add("order of headers")
    return found


def differences(theirs: Reply, ours: Reply) -> frozenset[str]:
    """Return the respects in which two replies differ.

    What follows from a respect is not named beside it: another status comes with another body.

    :param theirs: upstream's.
    :param ours: ours.
    """
    if bool(theirs.status) != bool(ours.status):
        return frozenset({"reply"})
    found: set[str] = set()
    if theirs.status != ours.status:
        found.add("status")
    else:
        found |= _body_differences(theirs, ours)
        if theirs.reason != ours.reason:
            found.add("reason")
        found |= _header_differences(theirs, ours)
    if theirs.version != ours.version:
        found.add("version")
    if theirs.interim != ours.interim:
        found.add("interim reply")
    if theirs.closed != ours.closed:
        found.add("connection")
    if bool(theirs.values("Content-Length")) != bool(ours.values("Content-Length")):
        found.add("length")
    return frozenset(found)
