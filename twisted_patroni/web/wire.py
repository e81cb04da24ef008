"""HTTP/1 as text: what a request line asks for, and the bytes of an answer. Pure functions.

The target is read as Patroni's API reads it, which is not as ``twisted.web`` reads it: nothing is
percent-decoded in the path, so ``/%70rimary`` is not ``/primary``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlparse

from attrs import field, frozen

from twisted_patroni.web.answers import reason_phrase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twisted_patroni.web.answers import Answer

HTTP_1_0 = b"HTTP/1.0"
HTTP_1_1 = b"HTTP/1.1"

_OTHER_VERSION = re.compile(rb"\S+ \S+ HTTP/(?!1\.[01]$)\d+\.\d+$")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~\w-]+:[^\r\n\0]*")
_TARGET = re.compile(rb"[!\"$-~]+")  # what is printed in ASCII, without the # of a fragment
_LINE_BREAKS = str.maketrans(dict.fromkeys("\r\n\0", " "))


@frozen
class Target:
    """What a request asks for.

    :param path: the path without scheme, host, ``;parameters`` and query, with several leading
        slashes made one. Empty for ``http://host``, ``*`` for ``OPTIONS *``.
    :param query: the query's parameters; those without a value are left out, and the first of
        repeated ones counts.
    :ivar components: the parts of the path: none for an empty path, one empty part for ``/``.
    """

    path: str
    query: Mapping[str, str]
    components: tuple[bytes, ...] = field(init=False)

    @components.default
    def _split(self) -> tuple[bytes, ...]:
        if not self.path:
            return ()
        return tuple(self.path.removeprefix("/").encode("latin-1").split(b"/"))


@lru_cache(maxsize=256)
def parse_target(raw: bytes) -> Target:
    """Read a request target; health checkers ask for the same one again and again.

    :param raw: the target as sent.
    :raises ValueError: if it cannot be a URL, or is one that proxies would read in another way.
    """
    if _TARGET.fullmatch(raw) is None:
        raise ValueError("not the characters of a request target")
    text = raw.decode("ascii")
    # Before it is parsed: "//leader" is a path (vip-manager asks so), not a host name.
    if text.startswith("//"):
        text = "/" + text.lstrip("/")
    url = urlparse(text)
    if url.scheme and not url.netloc:
        raise ValueError("neither a path nor an absolute URL")
    path = "/" + url.path.lstrip("/") if url.path.startswith("//") else url.path
    query = {key: values[0] for key, values in parse_qs(url.query).items()} if url.query else {}
    return Target(path, query)


def bad_line_status(line: bytes) -> int:
    """Tell which status a request line deserves that could not be read.

    :param line: the request line.
    :return: 505 for a version of HTTP that is not spoken here, else 400.
    """
    return 505 if _OTHER_VERSION.match(line) else 400


def is_field(line: bytes) -> bool:
    """Tell whether a line is a name, a colon and a value, as headers and trailers are.

    :param line: the line.
    """
    return _FIELD.fullmatch(line) is not None


def plain_host(host: str) -> str:
    """Return an address as its owner writes it: IPv4 seen through an IPv6 socket is IPv4.

    :param host: the address; a text that is not an address is returned as it is.
    """
    if ":" not in host:
        return host
    try:
        address = ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines that cannot break out of their line, whatever the values hold.

    :param headers: names and values, in the order to send.
    """
    return b"".join(
        f"{name}: {value}".translate(_LINE_BREAKS).encode("latin-1", "replace") + b"\r\n"
        for name, value in headers
    )


def encode_answer(
    answer: Answer,
    *,
    version: bytes,
    method: bytes,
    close: bool,
    standard: bytes,
    extra: bytes,
) -> bytes:
    """Return the bytes of an answer, made once for all clients that share it.

    :param answer: the answer.
    :param version: the version of HTTP that the client speaks.
    :param method: the method of its request; HEAD gets no body.
    :param close: say that the connection is closed afterwards.
    :param standard: the header lines that start every answer (Server and Date).
    :param extra: the header lines that the operator wants on answers.
    """
    head_only = method == b"HEAD"
    key = (version, head_only, close, standard, extra)
    encoded = answer.encoded.get(key)
    if encoded is None:
        encoded = answer.encoded[key] = _encode(answer, *key)
    return encoded


def _encode(
    answer: Answer, version: bytes, head_only: bool, close: bool, standard: bytes, extra: bytes
) -> bytes:
    reason = reason_phrase(answer.code) if answer.reason is None else answer.reason
    status = f"{answer.code} {reason}".translate(_LINE_BREAKS).encode("latin-1", "replace")
    parts = [version, b" ", status, b"\r\n"]
    if answer.bare:
        # Consul and HAProxy know upstream's bare line; a connection kept alive needs a length.
        if version != HTTP_1_0:
            parts += [standard, b"Content-Length: 0\r\n"]
            if close:
                parts.append(b"Connection: close\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)
    parts += [standard, header_lines(answer.headers)]
    if answer.content_type is not None:
        parts.append(header_lines([("Content-Type", answer.content_type)]))
    parts.append(b"Content-Length: %d\r\n" % len(answer.body))
    if close:
        parts.append(b"Connection: close\r\n")
    parts += [extra, b"\r\n"]
    if not head_only:
        parts.append(answer.body)
    return b"".join(parts)
