"""What hostile and broken clients send for a request line, and behind a request: a table."""

from __future__ import annotations

from tests.attacks import BODY, GET, GOOD_PATCH, SMUGGLED, Attack, patch

#: The start of what a browser or ``curl`` sends to a port that it takes for one with TLS.
CLIENT_HELLO = (
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(32)) + b"\x20" + bytes(32)
    + b"\x00\x02\x13\x01\x01\x00\x00\x56\r\n\r\nGET / HTTP/1.1\r\n\r\n"
)  # fmt: skip


def _line(line: bytes, *codes: int) -> Attack:
    """Return a request line with the rest of a good request and another one behind it."""
    return Attack(f"line {line[:40]!r}", line + b"\r\nHost: node\r\n\r\n" + GET, codes)


def _target(target: bytes, *codes: int, method: bytes = b"GET") -> Attack:
    return _line(b"%b %b HTTP/1.1" % (method, target), *codes)


REQUEST_LINES = (
    *(
        _line(line, 400)
        for line in [
            b"GET /liveness", b"GET", b"x", b"GET /liveness HTTP", b"GET /liveness HTTP/",
            b"GET /liveness HTTP/1", b"GET /liveness HTTP/1.", b"GET /liveness HTTP/.1",
            b"GET /liveness HTTP/x", b"GET /liveness http/1.1", b"GET /liveness HTTP/-1.1",
            b"GET /liveness HTTP/+1.1", b"GET /liveness HTTP/1.1 x", b"GET /liveness HTTP/1.1 ",
            b" GET /liveness HTTP/1.1", b"\tGET /liveness HTTP/1.1", b"GET  /liveness HTTP/1.1",
            b"GET /liveness  HTTP/1.1", b"GET\t/liveness\tHTTP/1.1", b"GET\x0b/liveness HTTP/1.1",
            b"GET /liveness\tHTTP/1.1", b"GET HTTP/1.1", b"GET  HTTP/1.1", b"/liveness HTTP/1.1",
            b"GET\0 /liveness HTTP/1.1", b"\0GET /liveness HTTP/1.1", b"\0\1\2", b"\xff\xfe",
            b"G(T /liveness HTTP/1.1", b"GET: /liveness HTTP/1.1", b"G\xc3\x8bT / HTTP/1.1",
            b"\xef\xbb\xbfGET /liveness HTTP/1.1", b"GET /liveness\rHTTP/1.1",
            b"GET /liveness HTTP/1.1\r", b"GET /liveness HTTP/1.1\nHost: x", b"\nGET / HTTP/1.1",
            b"\rGET /liveness HTTP/1.1", b"Host: node", b"HTTP/1.1 200 OK", b"HELO node",
            b"*1", b"EHLO x", b"SSH-2.0-x", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
            b"GET /\x00 HTTP/1.1", b"GET /a\x01 HTTP/1.1", b"GET /a b HTTP/1.1",
        ]
    ),
    *(
        _line(line, 505)
        for line in [
            b"GET /liveness HTTP/1.2", b"GET /liveness HTTP/1.10", b"GET /liveness HTTP/01.1",
            b"GET /liveness HTTP/0.9", b"GET /liveness HTTP/2.0", b"GET /liveness HTTP/3.0",
            b"PRI * HTTP/2.0", b"PATCH /config HTTP/9.9",
        ]
    ),
    _line(b"GET /" + b"x" * 1100 + b" HTTP/1.1", 414),
    _line(b"x" * 1100 + b" / HTTP/1.1", 414),
    Attack("a line without end", b"GET /" + b"x" * 5000, (414,)),
    Attack("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), (505,)),
    Attack("an HTTP/0.9 request", b"GET /\r\n", (400,)),
    Attack("a line feed only", b"GET /liveness HTTP/1.1\nHost: node\n\n", (408,)),
    Attack("a blank line first", b"\r\n" + GET, (200,)),
    Attack("two blank lines first", b"\r\n\r\n" + GET, (400,)),
    Attack("a blank line only", b"\r\n", (408,)),
    Attack("a request without end", GET[:-2], (408,)),
    Attack("nothing", b"", ()),
    Attack("TLS", CLIENT_HELLO, (400,)),
    Attack("a byte of TLS", CLIENT_HELLO[:1], (400,)),
    Attack("a PROXY header, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), (400,)),
)  # fmt: skip

TARGETS = (
    *(
        _target(target, 400, method=method)
        for method in (b"GET", b"PATCH")
        for target in [
            b"/\x7f", b"/\x80", b"/\xa0", b"/\xb0", b"/\xff", b"/\xc3\xa9", b"/\xed\xa0\x80",
            b"/\xc0\xae", b"/config#x", b"#", b"/?#", b"node:8008", b"x:config", b"x:/config",
            b"http:config", b"http:/config", b"http:///config", b"http://[/", b"http://[::1/x",
            b"http://]/", b"javascript:1", b"file:///config",
        ]
    ),
    _target(b"node:8008", 400, method=b"CONNECT"),
    *(
        _target(target, 501, 200, method=b"PATCH")
        for target in [
            b"/%63onfig", b"/%2e%2e/config", b"/x/../config", b"/./config", b"/%00", b"/config%00",
            b"/%2fconfig", b"/\\config", b"/CONFIG", b"/;/config", b"?/config", b"*", b"/",
            b"http://node", b"http://node?/config", b"/x//config",
        ]
    ),
    *(
        _target(target, 200, 200)
        for target in [
            b"http://node/liveness", b"HTTP://user@node:1/liveness?x=y", b"//liveness", b"liveness",
            b"/liveness;x", b"/liveness?", b"/liveness?%00=%ff&&=;", b"/liveness?a=%zz&b=%",
            b"/liveness/../x",
        ]
    ),
    _target(b"*", 503, 200, method=b"OPTIONS"),
)  # fmt: skip

METHODS = tuple(
    _target(b"/config", 501, 200, method=method)
    for method in [
        b"get", b"Get", b"patch", b"TRACE", b"TRACK", b"DEBUG", b"CONNECT", b"PROPFIND", b"BREW",
        b"DELETE", b"GET_config", b"PATCH_config", b"__class__", b"M-SEARCH", b"!", b"~" * 500,
    ]
)  # fmt: skip


def _expecting(value: bytes, body: bytes = BODY, version: bytes = b"1.1") -> bytes:
    return patch(b"Expect: %b\r\nContent-Length: 11\r\n" % value, body, version)


_TOO_LONG = patch(b"Expect: 100-continue\r\nContent-Length: 9999\r\n")

EXPECTATIONS = (
    Attack("continue", _expecting(b"100-continue") + GET, (100, 200, 200), 1),
    Attack("continue in capitals", _expecting(b"100-Continue"), (100, 200), 1),
    Attack("continue in HTTP/1.0", _expecting(b"100-continue", version=b"1.0"), (200,), 1),
    Attack("continue, then nothing", _expecting(b"100-continue", b""), (100, 408)),
    Attack("continue with a body too long", _TOO_LONG + GET, (413,)),
    Attack("continue without body", b"GET /liveness HTTP/1.1\r\nExpect: 100-continue\r\n\r\n" + GET,
           (200, 200)),
    Attack("continue, wrong method", _expecting(b"100-continue").replace(b"PATCH", b"BREW") + GET,
           (501,)),
    Attack("unknown", _expecting(b"200-ok") + GET, (200, 200), 1),
    Attack("unknown and empty", _expecting(b"") + GET, (200, 200), 1),
    Attack("a smuggler's", patch(b"Expect: 100-continue\r\nContent-Length: 11\r\n"
           b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), (400,)),
)  # fmt: skip

PIPELINES = (
    Attack("ten good ones", GET * 10, (200,) * 10),
    Attack("good ones of both kinds", (GET + GOOD_PATCH) * 3, (200,) * 6, 3),
    Attack("nonsense behind good ones", GET * 2 + b"x\r\n\r\n" + GET, (200, 200, 400)),
    Attack("nonsense behind a body", GOOD_PATCH + b"x\r\n\r\n" + SMUGGLED, (200, 400), 1),
    Attack("nonsense behind HEAD", b"HEAD /liveness HTTP/1.1\r\n\r\nx\r\n\r\n" + GET, (200, 400)),
    Attack("a long line behind HEAD", b"HEAD /liveness HTTP/1.1\r\n\r\n" + b"x" * 2000, (200, 414)),
    Attack("half a line behind HEAD", b"HEAD /liveness HTTP/1.1\r\n\r\nGET", (200, 408)),
    Attack("half a request behind a good one", GET + GET[:9], (200, 408)),
    Attack("a body that is longer", patch(b"Content-Length: 11\r\n", BODY + b"}") + GET,
           (200, 400), 1),
    Attack("a body that is shorter", patch(b"Content-Length: 12\r\n", BODY) + GET, (400, 501)),
    Attack("a body where none is read", b"GET /liveness HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b%b"
           % (len(SMUGGLED), SMUGGLED, GET), (200, 200)),
    Attack("a body in chunks where none is read", b"GET /liveness HTTP/1.1\r\n"
           b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n%b"
           % (len(SMUGGLED), SMUGGLED, GET), (200, 200)),
    Attack("a refused body", patch(b"Content-Length: 3000\r\n", SMUGGLED) + GET, (413,)),
    Attack("a last request", GET.replace(b"node", b"node\r\nConnection: close") + SMUGGLED, (200,)),
)  # fmt: skip
