"""How the parity test's requests are written down."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

SetUp = tuple[Any, ...]
Headers = tuple[tuple[str, str], ...]
PATIENCE = 30.0


@frozen
class Request:
    """One request, and in which declared ways its two replies differ.

    :param name: what the test's report calls it.
    :param raw: the bytes.
    :param differs: slugs of ``docs/differences.md``.
    :param half_close: tell the server that nothing more follows.
    :param patience: seconds after which silence is taken for the answer.
    :param source: the loopback address that it comes from.
    """

    name: str
    raw: bytes
    differs: tuple[str, ...] = ()
    half_close: bool = False
    patience: float = PATIENCE
    source: str = "127.0.0.1"


#: Requests that only make sense one after the other; one server gets them all, then the other.
Story = tuple[Request, ...]


@frozen
class Scene:
    """Requests for a node in a certain state.

    :param name: what the test's report calls it.
    :param setups: what the node is made to show, each with the arguments of its set-up.
    :param requests: requests, and stories of several.
    :param anew: show it anew for each server, for the requests change it.
    """

    name: str
    setups: tuple[SetUp, ...]
    requests: tuple[Request | Story, ...]
    anew: bool = False

    @property
    def stories(self) -> tuple[Story, ...]:
        """The requests, a lone one as a story of its own."""
        return tuple((each,) if isinstance(each, Request) else each for each in self.requests)


def req(
    line: str,
    body: Any = None,
    *,
    differs: str = "",
    headers: Headers = (),
    version: str = "HTTP/1.0",
    name: str = "",
    half_close: bool = False,
) -> Request:
    """Write a well-formed request down.

    :param line: method and target.
    :param body: text or bytes as they are, anything else as JSON; ``None`` for no body at all.
    :param differs: slugs of declared differences, separated by blanks.
    :param headers: further headers.
    :param version: of HTTP.
    :param name: if the line does not tell it from others.
    :param half_close: tell the server that nothing more follows.
    """
    content = b""
    lines = [f"{line} {version}", "Host: node"]
    lines += [f"{key}: {value}" for key, value in headers]
    if body is not None:
        if isinstance(body, str | bytes):
            content = body.encode() if isinstance(body, str) else body
        else:
            content = json.dumps(body).encode()
        lines.append(f"Content-Length: {len(content)}")
    raw = "\r\n".join([*lines, "", ""]).encode("latin-1") + content
    shown = name or " ".join([line, *(value for _, value in headers)])
    if body is not None and not name:
        shown += f" {content[:200].decode('latin-1')}"
    return Request(f"{shown} [{version[5:]}]", raw, tuple(differs.split()), half_close)


def raw(
    name: str,
    text: str | bytes,
    *,
    differs: str = "",
    half_close: bool = False,
    patience: float = PATIENCE,
) -> Request:
    """Write a request down as it is sent.

    :param name: what it is called.
    :param text: what is sent; every line break becomes CR LF in a text.
    :param differs: slugs of declared differences, separated by blanks.
    :param half_close: tell the server that nothing more follows.
    :param patience: seconds after which silence is taken for the answer.
    """
    data = text.replace("\n", "\r\n").encode("latin-1") if isinstance(text, str) else text
    return Request(name, data, tuple(differs.split()), half_close, patience)
