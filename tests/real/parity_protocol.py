"""The parity test's requests that are odd as HTTP: lines, headers, bodies and methods."""

from __future__ import annotations

from typing import Any

from tests.real.parity_requests import Request, Scene, SetUp, raw, req

_RECORDED: SetUp = ("recorded", {"restart": [True, "restarted successfully"], "set_config": True})


def _lines(*lines: str, differs: str = "") -> tuple[Request, ...]:
    return tuple(raw(line[:70], f"{line}\n\n", differs=differs) for line in lines)


_METHODS = (
    "POST /", "POST /nope", "PUT /restart", "PUT /", "DELETE /", "DELETE /config", "PATCH /",
    "PATCH /nope", "TRACE /", "FOO /", "get /", "Get /leader", "POST /patroni", "POST /config",
    "PUT /reload", "PATCH /restart", "DELETE /reload", "DELETE /failover", "PROPFIND /",
    "POST //", "POST *", "DELETE http://node/config", "M-SEARCH *",
)  # fmt: skip

_REQUEST_LINES = Scene(
    "request lines",
    (_RECORDED,),
    (
        *(req(line) for line in _METHODS),
        req("CONNECT node:1", differs="strict-lines"),
        *(req(line, {"x": 1}) for line in ("POST /nope", "PUT /restart", "BREW /coffee")),
        *(req(line, differs="method-tokens") for line in
          ("GET_config /", "POST_reload /x", "GET_liveness /", "DELETE_restart /")),
        *(req(line) for line in ("HEAD_ /", "GET_nope /")),
        *_lines("GET / HTTP/1.0", "GET http://[::1]/leader HTTP/1.0", "GET /?lag=%ff HTTP/1.0",
                "GET /?lag=%00 HTTP/1.0", "GET /replica?%6cag=1 HTTP/1.0", "GET /?a;b HTTP/1.0",
                "GET /?&&= HTTP/1.0", "GET /leader? HTTP/1.0", "GET //[ HTTP/1.0"),
        *_lines("GET  / HTTP/1.0", "GET / HTTP/1.0 ", " GET / HTTP/1.0", "GET /leader\t HTTP/1.0",
                "GET\t/leader\tHTTP/1.0", "GET /a\x00b HTTP/1.0", "GET /é HTTP/1.0",
                "GET /replica?tag_x=é HTTP/1.0", differs="strict-lines"),
        *_lines("GET / HTTP/1.2", "GET / HTTP/1.10", "GET / HTTP/01.0", differs="versions"),
        *_lines("GET / HTTP/2.0", "GET / HTTP/3.0", "POST /nope HTTP/2.0", "HEAD / HTTP/2.0",
                "GET / HTTP/1.", "GET / HTTP/x", "GET / http/1.0", "GET / HTTP/1.0 x", "GET /x y",
                "GET / HTTP/0.9", "GET", "POST", "x", "GET / HTTP/+1.0", "HEAD / HTTP/x",
                "GET /", "GET /leader", "POST /reload", "HEAD /", differs="http-0.9"),
        *_lines("GET http://[/ HTTP/1.0", differs="no-empty-replies"),
        raw("a blank line first", "\nGET / HTTP/1.0\n\n", differs="blank-line-first"),
        raw("line feeds only", b"GET /leader HTTP/1.0\nHost: x\n\n",
            differs="line-ends", patience=2.0),
        raw("a TLS handshake", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"x" * 159,
            differs="tls-to-plain-http", patience=2.0),
        raw("nothing", b"", half_close=True),
        raw("a probe and no more", "GET /liveness HTTP/1.0\n\n", half_close=True),
        raw("half a line", "GET /lea", half_close=True, differs="half-requests"),
        raw("half a head", "GET /leader HTTP/1.0\nHost: x\n", half_close=True,
            differs="half-requests"),
        raw("a line of 8000", f"GET /{'x' * 8000} HTTP/1.0\n\n"),
        raw("a line of 9000", f"GET /{'x' * 9000} HTTP/1.0\n\n", differs="limits"),
        raw("a line of 70000", f"GET /{'x' * 70000} HTTP/1.0\n\n", differs="limits"),
        raw("two requests at once", "GET /leader HTTP/1.0\n\nGET /replica HTTP/1.0\n\n"),
        raw("two requests at once, 1.1", "GET /leader HTTP/1.1\n\nGET /replica HTTP/1.1\n\n",
            differs="keep-alive"),
        raw("no Host", "GET /leader HTTP/1.1\n\n", differs="keep-alive"),
        raw("two Hosts", "GET /leader HTTP/1.1\nHost: a\nHost: b\n\n",
            differs="keep-alive strict-headers"),
        raw("POST /nope, 1.1", "POST /nope HTTP/1.1\nHost: a\n\n", differs="keep-alive"),
    ),
)  # fmt: skip


def _headed(name: str, headers: str, differs: str = "") -> Request:
    return raw(name, f"GET /leader HTTP/1.0\n{headers}\n\n", differs=differs)


_HEADS = Scene(
    "headers",
    (_RECORDED,),
    (
        _headed("no colon", "nonsense", "strict-headers"),
        _headed("no name", ": x", "strict-headers"),
        _headed("blank in a name", "a b: c", "strict-headers"),
        _headed("blank before the colon", "Host : x", "strict-headers"),
        _headed("continued", "X-Long: a\n b", "strict-headers"),
        _headed("continued at once", " a: b", "strict-headers"),
        _headed("empty value", "X-Empty:"),
        _headed("not ASCII", "X-Name: é"),
        _headed("NUL", "X-Name: a\x00b", "strict-headers"),
        _headed("99 headers", "\n".join(f"X-{n}: x" for n in range(99))),
        _headed("101 headers", "\n".join(f"X-{n}: x" for n in range(101)), "limits"),
        _headed("a header of 8000", f"X-Long: {'x' * 8000}"),
        _headed("a header of 9000", f"X-Long: {'x' * 9000}", "limits"),
        _headed("a head of 40000", "\n".join(f"X-{n}: {'x' * 4000}" for n in range(10)), "limits"),
        _headed("a header of 70000", f"X-Long: {'x' * 70000}", "limits"),
        _headed("Expect: something", "Expect: something"),
        _headed("Upgrade", "Connection: upgrade\nUpgrade: websocket"),
    ),
)


def _bodied(
    name: str,
    headers: str,
    body: str | bytes = "",
    *,
    line: str,
    version: str = "1.0",
    differs: str = "",
    half_close: bool = False,
) -> Request:
    head = f"{line} HTTP/{version}\n{headers}\n\n".replace("\n", "\r\n").encode("latin-1")
    content = body.encode() if isinstance(body, str) else body
    return raw(f"{line} {name} [{version}]", head + content, differs=differs, half_close=half_close)


_WRONG = (
    b"null", b"[]", b'"x"', b"1", b"true", b"[{}]", b"{", b"   ", b"{}x", b'{"x":"\xff"}',
    b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"[" * 100000,
)  # fmt: skip
_CHUNKS = '8\r\n{"x": 1}\r\n0\r\n\r\n'


def _bodies(line: str, *, optional: bool) -> tuple[Request, ...]:
    """Return the same bodies for any endpoint: one that needs a body refuses an empty object."""
    empty = "" if optional else "reasons-on-pages"
    unread = "lengths" if optional else ""

    def of(name: str, headers: str, body: str | bytes = "", **more: Any) -> Request:
        return _bodied(name, headers, body, line=line, **more)

    return (
        of("without length", "Host: x"),
        of("without length but a body", "Host: x", '{"x": 1}'),
        of("of length 0", "Content-Length: 0", differs=empty),
        of("of length 0002", "Content-Length: 0002", "{}", differs=empty),
        of("of length x", "Content-Length: x", "{}"),
        of("of length 1e1", "Content-Length: 1e1", "{}"),
        of("of length 2, 2", "Content-Length: 2, 2", "{}"),
        of("of empty length", "Content-Length:", differs=unread),
        of("of length +2", "Content-Length: +2", "{}", differs=unread),
        of("of two lengths", "Content-Length: 2\nContent-Length: 2", "{}", differs=unread),
        of("of lengths 2 and 3", "Content-Length: 2\nContent-Length: 3", "{}", differs=unread),
        of("of length 1_0", "Content-Length: 1_0", '{"a": "b"}', differs="lengths"),
        of("of length -1", "Content-Length: -1", '{"x": 1}', half_close=True, differs="lengths"),
        of("of 20 digits", "Content-Length: " + "9" * 20, "{}", half_close=True),
        of("that ends too soon", "Content-Length: 20", '{"x": 1}', half_close=True,
           differs="half-requests"),
        of("longer than its length", "Content-Length: 2", "{}{}", differs=empty),
        of("in chunks", "Transfer-Encoding: chunked", _CHUNKS, differs="chunked"),
        of("in chunks", "Transfer-Encoding: chunked", _CHUNKS, version="1.1",
           differs="chunked keep-alive"),
        of("in bad chunks", "Transfer-Encoding: chunked", "x\r\n{}\r\n0\r\n\r\n",
           differs="chunked"),
        of("in gzip", "Transfer-Encoding: gzip\nContent-Length: 2", "{}", differs=unread),
        *(req(line, body, differs="reasons-on-pages") for body in _WRONG),
        *(req(line, body, differs=empty) for body in ("{}", " {} ")),
        of("of 6 MB", "Content-Length: 6000000", b" " * 6000000, differs="limits"),
        of("as a form", "Content-Type: application/x-www-form-urlencoded\nContent-Length: 2", "{}",
           differs=empty),
        of("after 100", "Expect: 100-continue\nContent-Length: 2", "{}", version="1.1",
           differs=f"continue keep-alive {empty}"),
        of("after 100", "Expect: 100-continue\nContent-Length: 2", "{}", differs=empty),
    )  # fmt: skip


_BODIES = Scene(
    "bodies",
    (_RECORDED,),
    (*_bodies("PATCH /config", optional=False), *_bodies("POST /restart", optional=True)),
)
_UNREAD = Scene(
    "bodies that nobody reads",
    (_RECORDED,),
    (
        req("POST /reload", "x" * 1000, name="POST /reload with a body"),
        req("GET /leader", "x" * 10000, name="GET /leader with 10 kB"),
        req("POST /nope", "x" * 10000, name="POST /nope with 10 kB"),
        req("OPTIONS /", "x" * 1000, name="OPTIONS / with a body"),
        _bodied("in chunks", "Transfer-Encoding: chunked", "0\r\n\r\n", line="GET /leader"),
        _bodied("of length -1", "Content-Length: -1", line="GET /leader", differs="lengths"),
        _bodied("of length x", "Content-Length: x", line="POST /reload", differs="lengths"),
    ),
)

SCENES: tuple[Scene, ...] = (_REQUEST_LINES, _HEADS, _BODIES, _UNREAD)
