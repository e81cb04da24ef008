"""A request to a member of a cluster in memory, as far as an answer depends on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen
class Question:
    """A request.

    :param method: the method.
    :param path: the path's parts.
    :param query: the parameters.
    :param headers: the headers, by their names in lower case.
    :param body: the body.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(
        cls, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Question:
        """Read a request.

        :param method: the method.
        :param path: the path.
        :param query: what follows the ``?``.
        :param headers: the headers, by their names in lower case.
        :param body: the body.
        """
        parts = tuple(map(unquote, path.strip("/").split("/")))
        given = {name: values[0] for name, values in parse_qs(query).items()}
        return cls(method, parts, given, headers, body)

    @property
    def document(self) -> dict[str, Any]:
        """The object in the body; an empty one without a body.

        :raise ValueError: if there is something else.
        """
        found = json.loads(self.body or b"{}")
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found

    @property
    def key(self) -> str | None:
        """By what the request is known if it is repeated."""
        return self.headers.get("idempotency-key")

    @property
    def is_dry(self) -> bool:
        """Whether only a forecast is wanted."""
        return self.query.get("dry_run") == "true"

    @property
    def is_patient(self) -> bool:
        """Whether the answer is not to wait for the end."""
        return "respond-async" in self.headers.get("prefer", "")

    @property
    def wants_json(self) -> bool:
        """Whether a refusal is to be explained."""
        return "application/json" in self.headers.get("accept", "")
