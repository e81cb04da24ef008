"""One answer of a node, complete."""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen
from twisted.web.http_headers import Headers

from twisted_patroni.client.errors import BrokenAnswer
from twisted_patroni.client.shapes import is_flat

#: Characters of a text that are shown in an error.
_SHOWN = 200


@frozen
class Response:
    """What a node has answered.

    :param url: what was asked.
    :param status: the HTTP status.
    :param reason: its phrase.
    :param headers: the headers.
    :param body: the body.
    :param time: seconds that the server took; the wait for a place among the connections is none of
        its.

    >>> response = await node.request("GET", "/config")
    >>> response.status, response.reason, response.json()["ttl"]
    (200, 'OK', 30)
    >>> response.header("Content-Type"), response.time
    ('application/json', 0.0)
    """

    url: str
    status: int
    reason: str = ""
    headers: Headers = field(factory=Headers, repr=False, eq=False)
    body: bytes = field(default=b"", repr=False)
    time: float = field(default=0.0, eq=False)

    @property
    def ok(self) -> bool:
        """Whether the status is one of success (2xx).

        >>> (await node.request("GET", "/replica")).ok
        False
        """
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text.

        >>> (await node.request("POST", "/reload")).text
        'reload scheduled'
        """
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str | None:
        """Return the first value of a header, ``None`` if it is not there.

        :param name: the header's name, in whatever case.

        >>> (await node.request("GET", "/config")).header("content-type")
        'application/json'
        """
        values = self.headers.getRawHeaders(name)
        return values[0] if values else None

    def json(self) -> Any:
        """Return the body as JSON.

        :raise BrokenAnswer: if it is none.

        >>> (await node.request("GET", "/config")).json()["ttl"]
        30
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise BrokenAnswer(self.url, "answers with what is not JSON", self) from None

    @property
    def sentence(self) -> str:
        """What the node says to a person: the error in its document, its text, or the phrase.

        >>> (await node.request("POST", "/reload")).sentence
        'reload scheduled'
        """
        try:
            said = json.loads(self.body)["error"]
        except (ValueError, RecursionError, LookupError, TypeError):
            kind = self.header("Content-Type") or ""
            page = self.body.lstrip().startswith(b"<") or not kind.startswith("text/")
            said = self.reason if page else self.text
        return " ".join(str(said).split())[:_SHOWN] or self.reason


def object_of(response: Response) -> dict[str, Any]:
    """Return the JSON object that an answer is.

    :param response: the answer.
    :raise BrokenAnswer: if it is none.
    """
    found = response.json()
    if not isinstance(found, dict):
        raise BrokenAnswer(response.url, "answers with JSON that is no object", response)
    if not is_flat(found):
        raise BrokenAnswer(response.url, "answers with JSON that is nested too deeply", response)
    return found
