"""The audit log: who asked to change something, and what the answer was, one JSON line each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.tls import ClientCertificate

#: Its namespace, ``twisted_patroni.audit``, is the logger's name in Patroni's ``log.loggers``.
_log = Logger()

#: Methods that change nothing.
SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
#: No text of a line is longer, whatever clients send.
LONGEST = 1024
_LONGEST_METHOD = 32


class Door(Protocol):
    """The listener that a request came through."""

    @property
    def name(self) -> str:
        """Where it listens."""


class Channel(Protocol):
    """The connection that a request came on."""

    @property
    def door(self) -> Door:
        """The listener."""

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """The client's verified certificate, if it gave one."""


class Request(Protocol):
    """What is read of a request: never its headers, its query or its body."""

    @property
    def method(self) -> bytes:
        """The method as sent."""

    @property
    def target_path(self) -> str:
        """The path without the query."""

    @property
    def client_host(self) -> str:
        """The client's address, empty for a Unix socket."""

    @property
    def user(self) -> str | None:
        """Who the client has proved to be by a password."""

    @property
    def channel(self) -> Channel:
        """The connection."""


def _text(value: str, longest: int = LONGEST) -> str:
    # A lone surrogate is allowed in JSON, but many who read it stumble.
    return value[:longest].encode("utf-8", "replace").decode("utf-8")


def _identity(user: str | None, certificate: ClientCertificate | None) -> dict[str, str]:
    known = {
        "user": user,
        "subject": certificate and certificate.subject,
        "serial": certificate and certificate.serial,
    }
    return {name: _text(value) for name, value in known.items() if value}


def audit_line(request: Request, code: int | None, seconds: float, now: float) -> str:
    """Return the line of one request: a JSON object in ASCII, its keys always in this order.

    :param request: the request.
    :param code: the answer's status, ``None`` if the client left before there was one.
    :param seconds: how long that took.
    :param now: the present Unix time.
    """
    time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    facts: dict[str, Any] = {
        "time": time.replace("+00:00", "Z"),
        "identity": _identity(request.user, request.channel.client_certificate),
        "address": _text(request.client_host) or "unix",
        "door": _text(request.channel.door.name),
        "method": _text(request.method.decode("latin-1"), _LONGEST_METHOD),
        "path": _text(request.target_path),
        "status": code,
    }
    if code is None:
        facts["left"] = True
    facts["duration"] = round(seconds, 3)
    return json.dumps(facts)


@define(eq=False)
class AuditLog:
    """Writes a line for each request that is not safe, allowed or refused.

    :param clock: the clock, which tells Unix time.
    :ivar records: how many lines were written so far.
    """

    clock: IReactorTime
    records: int = field(default=0, init=False)

    def record(self, request: Request, code: int | None, seconds: float) -> None:
        """Write a request down if its method may change something.

        :param request: the request.
        :param code: the answer's status, ``None`` if the client left before there was one.
        :param seconds: how long that took.
        """
        if request.method in SAFE_METHODS:
            return
        self.records += 1
        _log.info("{line}", line=audit_line(request, code, seconds, self.clock.seconds()))
