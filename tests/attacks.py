"""What hostile and broken clients send to an HTTP server, and what it deserves: a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


#: Sizes that the table goes beyond; an API under attack has to have them.
LIMITS = {"line_bytes": 1024, "head_bytes": 4096, "headers": 20, "body_bytes": 2048}

BODY = b'{"ttl": 20}'
GET = b"GET /liveness HTTP/1.1\r\nHost: node\r\n\r\n"
#: A change that somebody wants to get past a proxy, behind something else.
SMUGGLED = b'PATCH /config HTTP/1.1\r\nHost: node\r\nContent-Length: 12\r\n\r\n{"ttl": 666}'


def patch(lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """Return a request that changes something.

    :param lines: lines of its head, each with its end.
    :param body: its body as it is on the wire.
    :param version: of HTTP.
    """
    return b"PATCH /config HTTP/%b\r\nHost: node\r\n%b\r\n%b" % (version, lines, body)


#: Requests that are as they should be.
GOOD_GET = GET
GOOD_PATCH = patch(b"Content-Length: 11\r\n", BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b'3\r\n{"t\r\n8;x=y\r\ntl": 20}\r\n0\r\n\r\n'
GOOD_CHUNKS = patch(CHUNKED, CHUNKS)


@frozen
class Attack:
    """What a client sends, and what becomes of it.

    :param name: what is odd about it.
    :param data: all that is sent.
    :param codes: the statuses of all answers, in order. A 408 comes at a deadline, all others at
        once.
    :param changes: how often it changes something.
    """

    name: str
    data: bytes
    codes: tuple[int, ...]
    changes: int = 0

    @property
    def at_once(self) -> tuple[int, ...]:
        """The statuses of those answers that come at once."""
        return tuple(code for code in self.codes if code != 408)


def _framings(rows: Iterable[tuple[str, bytes]], code: int = 400) -> Iterator[Attack]:
    """Return requests whose end proxies may see elsewhere, with another one in their bodies."""
    for name, lines in rows:
        for kind, body in (("plain", BODY), ("chunked", CHUNKS)):
            data = patch(lines, body + SMUGGLED)
            yield Attack(f"{name}, {kind}", data, (code,))


_LENGTHS = (
    b"-1", b"-11", b"+11", b"0x0b", b"1_1", b"1 1", b"11.0", b"1e1", b"11;", b"11,", b"11, 11",
    b"11, 12", b"", b"\x0b11", b"11\x0c", b"11\0", b"\xd9\xa3", b"\xb2", b"'11'", b"9" * 19,
    b"9" * 1000, b"11\r", b"\n11",
)  # fmt: skip
_ENCODINGS = (
    b"gzip", b"chunked, gzip", b"gzip, chunked", b"identity", b"identity, chunked",
    b"chunked, identity", b"chunked, chunked", b"chunked,", b",chunked", b"chunked;q=1",
    b'"chunked"', b"\x0bchunked", b"chunked\x0c", b"chunked\0", b"\xffchunked", b"xchunked",
    b"chunke", b"chunk", b"", b"c hunked", b"chunked\r", b"\nchunked", b"\x00",
    b"\xef\xbb\xbfchunked", b"\xa0chunked",
)  # fmt: skip
_CL = b"Content-Length: 11\r\n"

FRAMING = (
    *_framings((f"length {value[:9]!r}", b"Content-Length: %b\r\n" % value) for value in _LENGTHS),
    *_framings(
        (f"encoding {value!r}", b"Transfer-Encoding: %b\r\n" % value) for value in _ENCODINGS
    ),
    *_framings(
        [
            ("two lengths", _CL + b"Content-Length: 0\r\n"),
            ("the same length twice", _CL * 2),
            ("the same length in two cases", _CL + b"content-length: 11\r\n"),
            ("length and chunked", _CL + CHUNKED),
            ("chunked and length", CHUNKED + _CL),
            ("chunked and length 0", CHUNKED + b"Content-Length: 0\r\n"),
            ("length 0 and chunked", b"Content-Length: 0\r\n" + CHUNKED),
            ("length and gzip", _CL + b"Transfer-Encoding: gzip\r\n"),
            ("length and identity", _CL + b"Transfer-Encoding: identity\r\n"),
            ("chunked twice", CHUNKED * 2),
            ("chunked and gzip", CHUNKED + b"Transfer-Encoding: gzip\r\n"),
            ("chunked and identity", CHUNKED + b"Transfer-Encoding: identity\r\n"),
            ("length with a blank", b"Content-Length : 11\r\n"),
            ("length with a tab", b"Content-Length\t: 11\r\n"),
            ("encoding with a blank", b"Transfer-Encoding : chunked\r\n"),
            ("encoding with a tab", b"Transfer-Encoding\t: chunked\r\n"),
            ("encoding with NUL", b"Transfer-Encoding\0: chunked\r\n"),
            ("encoding with VT", b"Transfer-Encoding\x0b: chunked\r\n"),
            ("length, encoding with a blank", _CL + b"Transfer-Encoding : chunked\r\n"),
            ("folded encoding", b"Transfer-Encoding:\r\n chunked\r\n"),
            ("folded length", b"Content-Length:\r\n\t11\r\n"),
            ("encoding in a fold", b"X: 1\r\n Transfer-Encoding: chunked\r\n"),
            ("length, encoding in a fold", _CL + b"\tTransfer-Encoding: chunked\r\n"),
            ("encoding behind CR", b"X: 1\rTransfer-Encoding: chunked\r\n"),
            ("encoding behind LF", b"X: 1\nTransfer-Encoding: chunked\r\n"),
            ("encoding behind LF CR", b"X: 1\n\rTransfer-Encoding: chunked\r\n"),
            ("length behind LF", b"X: 1\nContent-Length: 11\r\n"),
            ("length, encoding behind LF", _CL + b"X: 1\nTransfer-Encoding: chunked\r\n"),
        ]
    ),
    # Where the first answer leaves no doubt, what follows is another request, if it is one.
    Attack("chunked in capitals", patch(b"TRANSFER-ENCODING: CHUNKED\r\n", CHUNKS) + GET,
           (200, 200), changes=1),
    Attack("chunked between blanks", patch(b"Transfer-Encoding:\t chunked \t\r\n", CHUNKS) + GET,
           (200, 200), changes=1),
    Attack("a length with zeros", patch(b"Content-Length: 00011\r\n", BODY) + GET, (200, 200), 1),
    Attack("an underscore", patch(b"Transfer_Encoding: chunked\r\n", CHUNKS), (411, 400)),
    Attack("an underscore in a length", patch(b"Content_Length: 11\r\n", BODY), (411, 408)),
    Attack("another header", patch(b"X-Transfer-Encoding: chunked\r\n", CHUNKS), (411, 400)),
    Attack("HTTP/1.0 in chunks", patch(CHUNKED, CHUNKS + SMUGGLED, b"1.0"), (200,), 1),
    Attack("HTTP/1.0 twice", patch(_CL, BODY + SMUGGLED, b"1.0"), (200,), 1),
)  # fmt: skip


def _chunks(rows: Iterable[tuple[str, bytes]]) -> Iterator[Attack]:
    return (Attack(name, patch(CHUNKED, body + SMUGGLED), (400,)) for name, body in rows)


_SIZES = (
    b"+b", b"-b", b"-1", b"0xb", b"0Xb", b"b_", b"1_1", b" b", b"b ", b"\tb", b"g", b"", b"b\0",
    b"b\r", b"b\n", b"b.0", b"b,", b"\xd9\xa3", b"b;x\n", b"b;x\r", b"b;\0", b"b;\x0b",
    b"b;" + b"x" * 1200, b"0" * 1200 + b"b", b"f" * 1200,
)  # fmt: skip

CHUNKING = (
    *_chunks(
        (f"chunk size {size[:8]!r}", b"%b\r\n%b\r\n0\r\n\r\n" % (size, BODY)) for size in _SIZES
    ),
    *_chunks(
        [
            ("no CRLF behind a chunk", b"b\r\n" + BODY + b"0\r\n\r\n"),
            ("LF behind a chunk", b"b\r\n" + BODY + b"\n0\r\n\r\n"),
            ("CR behind a chunk", b"b\r\n" + BODY + b"\r0\r\n\r\n"),
            ("two bytes behind a chunk", b"b\r\n" + BODY + b"xx0\r\n\r\n"),
            ("a chunk that is longer", b"a\r\n" + BODY + b"\r\n0\r\n\r\n"),
            ("a chunk that is shorter", b"c\r\n" + BODY + b"\r\n0\r\n\r\n"),
            ("LF behind a size", b"b\n" + BODY + b"\r\n0\r\n\r\n"),
            ("a trailer without colon", b"b\r\n" + BODY + b"\r\n0\r\nx\r\n\r\n"),
            ("a trailer without name", b"b\r\n" + BODY + b"\r\n0\r\n: x\r\n\r\n"),
            ("LF in a trailer", b"b\r\n" + BODY + b"\r\n0\r\nX: 1\nY: 2\r\n\r\n"),
            ("LF LF in a trailer", b"b\r\n" + BODY + b"\r\n0\r\nX: 1\n\nGET / HTTP/1.1\r\n\r\n"),
            ("CR in a trailer", b"b\r\n" + BODY + b"\r\n0\r\nX: 1\rY: 2\r\n\r\n"),
            ("NUL in a trailer", b"b\r\n" + BODY + b"\r\n0\r\nX: \0\r\n\r\n"),
            ("a folded trailer", b"b\r\n" + BODY + b"\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
            ("a blank in a trailer", b"b\r\n" + BODY + b"\r\n0\r\nX : 1\r\n\r\n"),
            ("a request for a trailer", b"b\r\n" + BODY + b"\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
            ("endless trailers", b"b\r\n" + BODY + b"\r\n0\r\n" + b"X: 1\r\n" * 12000),
            ("an endless trailer", b"b\r\n" + BODY + b"\r\n0\r\nX: " + b"x" * 70000),
        ]
    ),
    Attack("chunks", GOOD_CHUNKS + GET, (200, 200), 1),
    Attack("capitals and zeros", patch(CHUNKED, b"000B\r\n" + BODY + b"\r\n000\r\n\r\n"),
           (200,), 1),
    Attack("extensions", patch(CHUNKED, b'b;a;b=c;d="e f"\r\n' + BODY + b"\r\n0;x\r\n\r\n"),
           (200,), 1),
    Attack("trailers", patch(CHUNKED, CHUNKS[:-2] + b"X-A: 1\r\nContent-Length: 9\r\n\r\n") + GET,
           (200, 200), 1),
    Attack("a huge chunk", patch(CHUNKED, b"f" * 200 + b"\r\n" + b" " * 3000), (413,)),
    Attack("many chunks", patch(CHUNKED, b"100\r\n" + b" " * 256 + b"\r\n") +
           (b"100\r\n" + b" " * 256 + b"\r\n") * 9, (413,)),
    Attack("too many tiny chunks", patch(CHUNKED, b"1\r\n \r\n" * 2000), (400,)),
    Attack("no last chunk", patch(CHUNKED, b"b\r\n" + BODY + b"\r\n"), (408,)),
    Attack("half a chunk", patch(CHUNKED, b"b\r\n" + BODY[:5]), (408,)),
    Attack("no end of trailers", patch(CHUNKED, b"b\r\n" + BODY + b"\r\n0\r\n"), (408,)),
)  # fmt: skip


def _heads(rows: Iterable[tuple[str, bytes]], code: int = 400) -> Iterator[Attack]:
    """Return requests with something in their heads, followed by a good one."""
    for name, lines in rows:
        yield Attack(name, patch(_CL + lines, BODY) + GET, (code,))


HEADS = (
    *_heads(
        [
            ("a folded header", b"X: 1\r\n 2\r\n"),
            ("a folded header, tab", b"X: 1\r\n\t2\r\n"),
            ("an empty fold", b"X: 1\r\n \r\n"),
            ("a blank before the colon", b"X : 1\r\n"),
            ("an empty name", b": 1\r\n"),
            ("a colon", b":\r\n"),
            ("no colon", b"X\r\n"),
            ("a request line for a header", b"GET / HTTP/1.1\r\n"),
            ("a blank in a name", b"X Y: 1\r\n"),
            ("NUL in a name", b"X\0: 1\r\n"),
            ("NUL in a value", b"X: \0\r\n"),
            ("bytes beyond ASCII in a name", b"X\xc3\xa9: 1\r\n"),
            ("brackets in a name", b"(X): 1\r\n"),
            ("CR in a value", b"X: 1\r2\r\n"),
            ("CR at the end of a value", b"X: 1\r\r\n"),
            ("LF in a value", b"X: 1\n2\r\n"),
            ("LF for a line's end", b"X: 1\nY: 2\r\n"),
            ("LF for the end of the head", b"X: 1\n\n{}\r\n"),
            ("two Hosts", b"Host: other\r\n"),
            ("the same Host twice", b"HOST: node\r\n"),
        ]
    ),
    *_heads([("a long header", b"X: " + b"x" * 1100 + b"\r\n"),
             ("a long name", b"x" * 1100 + b": \r\n"),
             ("a large head", (b"X: " + b"x" * 1000 + b"\r\n") * 5),
             ("many headers", b"X: 1\r\n" * 21),
             ("very many headers", b"X: 1\r\n" * 5000)], 431),
    Attack("a header without end", patch(_CL)[:-2] + b"X: " + b"x" * 2000, (431,)),
    Attack("a fold before the first header", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n" + GET, (400,)),
    Attack("no Host, as HAProxy asks", b"GET /liveness HTTP/1.1\r\n\r\n" + GET, (200, 200)),
    Attack("no Host in HTTP/1.0", b"GET /liveness HTTP/1.0\r\n\r\n", (200,)),
    Attack("values beyond ASCII", b"GET /liveness HTTP/1.1\r\nX: \xff\xfe\x01\r\n\r\n", (200,)),
    Attack("an empty value", b"GET /liveness HTTP/1.1\r\nX:\r\n\r\n", (200,)),
    Attack("a close among others", b"GET /liveness HTTP/1.1\r\nConnection: keep-alive,close\r\n\r\n"
           + GET, (200,)),
    Attack("a close in a second header", b"GET /liveness HTTP/1.1\r\nConnection: te\r\n"
           b"Connection: CLOSE\r\n\r\n" + GET, (200,)),
    Attack("an upgrade", b"GET /liveness HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
           b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + GET, (200, 200)),
    Attack("a range", b"GET /liveness HTTP/1.1\r\nRange: bytes=9999999999-1,-\r\n\r\n", (200,)),
    Attack("a body that is too long", patch(b"Content-Length: 2049\r\n", b" " * 2049) + GET,
           (413,)),
    Attack("a body that never comes", patch(b"Content-Length: 11\r\n"), (408,)),
    Attack("a huge length", patch(b"Content-Length: " + b"9" * 18 + b"\r\n", BODY) + GET, (413,)),
    Attack("half a body", patch(_CL, BODY[:-1]), (408,)),
)  # fmt: skip
