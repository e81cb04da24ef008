"""What an endpoint answers, as a value, and the bytes that Patroni's clients expect of it.

Upstream writes three kinds of reply and clients depend on each: a normal reply, a bare status
line (every HEAD and OPTIONS, the two probes), and the error page of Python's ``http.server``.
"""

from __future__ import annotations

import html
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Hashable

JSON = "application/json"
HTML = "text/html"
ERROR_HTML = "text/html;charset=utf-8"

Headers = tuple[tuple[str, str], ...]


def reason_phrase(code: int) -> str:
    """Return the reason phrase of a status.

    :param code: the HTTP status.
    :return: its phrase (RFC 9110 section 15), or an empty text for an unregistered status.
    """
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""


@frozen
class Answer:
    """One reply: status, body and headers, before it is written.

    :param code: the HTTP status.
    :param body: the body, empty for a bare reply.
    :param content_type: the media type, or ``None`` where no body is sent.
    :param headers: further headers in the order to send.
    :param reason: the reason phrase, where it is not the registered one.
    :param bare: send the status line only to HTTP/1.0 clients, as upstream does.
    :param close: close the connection after this reply.
    :ivar encoded: the bytes it has been sent as.
    """

    code: int
    body: bytes = b""
    content_type: str | None = None
    headers: Headers = ()
    reason: str | None = None
    bare: bool = field(default=False, kw_only=True)
    close: bool = field(default=False, kw_only=True)
    encoded: dict[Hashable, bytes] = field(factory=dict, init=False, eq=False, repr=False)


def json_answer(value: Any, code: int = 200, headers: Headers = ()) -> Answer:
    """Answer with a JSON document, encoded as upstream encodes it (what JSON lacks becomes text).

    :param value: the document.
    :param code: the HTTP status.
    :param headers: further headers.
    """
    return Answer(code, json.dumps(value, default=str).encode("ascii"), JSON, headers)


def text_answer(code: int, sentence: str, headers: Headers = ()) -> Answer:
    """Answer with one plain sentence; upstream labels these ``text/html``.

    :param code: the HTTP status.
    :param sentence: the sentence.
    :param headers: further headers.
    """
    return Answer(code, sentence.encode("utf-8"), HTML, headers)


def problem(code: int, sentence: str, headers: Headers = ()) -> Answer:
    """Answer with an error as a JSON object, as the endpoints do that upstream does not have.

    :param code: the HTTP status.
    :param sentence: what is wrong.
    :param headers: further headers.
    """
    return json_answer({"error": sentence}, code, headers)


def bare_answer(code: int) -> Answer:
    """Answer with a status and nothing else, as health checkers expect.

    :param code: the HTTP status.
    """
    return Answer(code, bare=True)


def error_page(
    code: int,
    message: str | None = None,
    explanation: str | None = None,
    *,
    headers: Headers = (),
    close: bool = False,
) -> Answer:
    """Answer with the error page of Python's ``http.server``, which upstream's clients know.

    :param code: the HTTP status.
    :param message: the reason phrase, if not the registered one.
    :param explanation: the sentence that says what was wrong; by default the standard
        description of the status.
    :param headers: further headers.
    :param close: close the connection afterwards.
    """
    if message is None:
        message = reason_phrase(code)
    if explanation is None:
        explanation = HTTPStatus(code).description
    page = BaseHTTPRequestHandler.error_message_format % {
        "code": code,
        "message": html.escape(message, quote=False),
        "explain": html.escape(explanation, quote=False),
    }
    return Answer(
        code,
        page.encode("utf-8", "replace"),
        ERROR_HTML,
        headers,
        message,
        close=close,
    )
