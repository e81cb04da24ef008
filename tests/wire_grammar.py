"""Requests for hypothesis to put together and to break: a grammar of HTTP/1 with mutations."""

from __future__ import annotations

from attrs import frozen
from hypothesis import strategies as st

from tests.attacks import BODY, SMUGGLED

#: Bytes that mean something to somebody who reads HTTP, where they do not belong.
_TOKENS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"\xff", b"\x80",
    b"0", b"-", b"+", b"0x", b"0\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET / ",
    b"\r\n ", b"Host: x\r\n", b"chunked", b"identity", b"Content-Length: 5\r\n", b"PATCH /config ",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
    b"\x16\x03\x01", b"%00", b"x" * 300, SMUGGLED,
]  # fmt: skip

_TARGETS = st.sampled_from(
    [b"/liveness", b"//liveness", b"/liveness?x=%00", b"http://node/liveness", b"/config"]
)
_HEADERS = st.lists(
    st.sampled_from(
        [b"X: 1\r\n", b"x:\r\n", b"Accept: */*\r\n", b"Cookie: a=b; c\r\n", b"X: \xff\r\n",
         b"User-Agent: curl/8\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n",
         b"TE: trailers\r\n", b"Authorization: Basic Og==\r\n"]
    ),
    max_size=4,
).map(b"".join)  # fmt: skip
_EXTENSIONS = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"'])
_TRAILERS = st.sampled_from([b"", b"", b"X: 1\r\n", b"Content-Length: 3\r\nX:\r\n"])


@frozen
class Sent:
    """A request as it goes over the wire.

    :param data: its bytes.
    :param code: the status it deserves.
    :param changes: whether it changes something.
    """

    data: bytes
    code: int = 200
    changes: bool = False


@st.composite
def chunked(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a body in chunks of any size, with extensions and trailers."""
    places = sorted(draw(st.sets(st.integers(1, len(content) - 1), max_size=4)))
    parts = [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), draw(_EXTENSIONS), part) for part in parts]
    return b"".join(chunks) + b"0\r\n" + draw(_TRAILERS) + b"\r\n"


@st.composite
def framed(draw: st.DrawFn, content: bytes) -> tuple[bytes, bytes]:
    """Return the header that tells a body's end, and the body."""
    if draw(st.booleans()):
        return b"Content-Length: %d\r\n" % len(content), content
    return b"Transfer-Encoding: chunked\r\n", draw(chunked(content))


@st.composite
def good_requests(draw: st.DrawFn) -> Sent:
    """Return a request as it should be: a question or a change."""
    headers, host = draw(_HEADERS), draw(st.sampled_from([b"Host: node\r\n", b""]))
    if draw(st.booleans()):
        line = b"GET %b HTTP/1.1\r\n" % draw(_TARGETS)
        extra, body = draw(framed(SMUGGLED)) if draw(st.integers(0, 4)) == 4 else (b"", b"")
        return Sent(line + host + extra + headers + b"\r\n" + body)
    length, body = draw(framed(BODY))
    lines = [host, headers, length] if draw(st.booleans()) else [length, headers, host]
    return Sent(b"PATCH /config HTTP/1.1\r\n%b\r\n%b" % (b"".join(lines), body), changes=True)


_LENGTHS = st.sampled_from([b"11", b"0", b"5", b"011", b"+11", b"11, 11", b"-1", b"", b"1e1"])
_CODINGS = st.sampled_from(
    [b"chunked", b"Chunked", b"identity", b"gzip", b"chunked, gzip", b"gzip, chunked", b"x", b""]
)
_FRAMINGS = st.one_of(
    _LENGTHS.map(lambda value: b"Content-Length: %b\r\n" % value),
    _CODINGS.map(lambda value: b"Transfer-Encoding: %b\r\n" % value),
    st.sampled_from(
        [b"Content-Length : 11\r\n", b"Transfer-Encoding\t: chunked\r\n", b" chunked\r\n",
         b"Transfer-Encoding:\r\n chunked\r\n", b"\tContent-Length: 0\r\n", b"X: \n0\r\n"]
    ),
)  # fmt: skip


@st.composite
def doubtful_requests(draw: st.DrawFn) -> bytes:
    """Return a request that says twice where it ends, or more often, with another one within."""
    framings = draw(st.lists(_FRAMINGS, min_size=2, max_size=3))
    lines = draw(st.permutations([b"Host: node\r\n", draw(_HEADERS), *framings]))
    body = draw(st.sampled_from([BODY, b"0\r\n\r\n", b"b\r\n" + BODY + b"\r\n0\r\n\r\n", b""]))
    return b"PATCH /config HTTP/1.1\r\n%b\r\n%b" % (b"".join(lines), body + SMUGGLED)


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes with a few things inserted, deleted, replaced, repeated or cut off."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 20, len(data))))
        token = draw(st.one_of(st.sampled_from(_TOKENS), st.binary(min_size=1, max_size=3)))
        data = draw(
            st.sampled_from(
                [
                    data[:start] + token + data[start:],
                    data[:start] + token + data[end:],
                    data[:start] + data[end:],
                    data[:end] + data[start:],
                    data[:start] + data[start:end].swapcase() + data[end:],
                    data[:end],
                ]
            )
        )
    return data


@st.composite
def broken_pipelines(draw: st.DrawFn) -> bytes:
    """Return a few requests on one connection, of which something is wrong."""
    sent = draw(st.lists(good_requests(), min_size=1, max_size=3))
    data: bytes = draw(broken(b"".join(each.data for each in sent)))
    return data


#: Where to cut what is sent: near its start, for heads, or anywhere.
CUTS = st.lists(st.one_of(st.integers(1, 120), st.integers(1, 1500)), max_size=12)
