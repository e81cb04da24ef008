"""The book of operations: the last ones, found by their id or by the key that a client gave."""

from __future__ import annotations

from collections import Counter
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from twisted_patroni.operations.model import ENDS, Kind, Operation, Origin, shown_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

#: Operations that are kept; finished ones go first.
KEPT = 200
#: Operations that may be on their way at the same time.
MOST_UNFINISHED = 100
#: Seconds after which it makes sense to try again when there are too many.
RETRY_AFTER = 10


class BookFull(Exception):
    """Too many operations are on their way."""


class KeyReused(Exception):
    """The same key has come with another request before."""


@frozen
class Key:
    """By what a repeated request is known.

    :param owner: who asks; others may use the same text.
    :param text: the key as sent.
    :param request: what tells one request from another: method, path and body.
    """

    owner: tuple[str | None, str | None]
    text: str
    request: object


@define(eq=False)
class OperationBook:
    """Keeps operations and tells of their changes.

    :param node: returns this node's name.
    :param now: the present time, aware of its zone.
    :param publish: told of each change, with the operation's document.
    :ivar ended: how many have ended, by kind and state.
    """

    node: Callable[[], str]
    now: Callable[[], datetime]
    publish: Callable[[Mapping[str, Any]], object]
    ended: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    _operations: dict[str, Operation] = field(factory=dict, init=False)
    _keys: dict[tuple[object, str], tuple[Key, Operation]] = field(factory=dict, init=False)

    def enter(
        self, kind: Kind, request: Mapping[str, Any], by: Origin, key: Key | None = None
    ) -> Operation:
        """Enter an operation that is about to begin.

        :param kind: what is done.
        :param request: what was asked for.
        :param by: who asked.
        :param key: by what the request is known if it is repeated.
        :raise BookFull: if too many are on their way.
        """
        if sum(1 for _ in self._unfinished()) >= MOST_UNFINISHED:
            raise BookFull
        if len(self._operations) >= KEPT:
            self._forget(next(each for each in self._operations.values() if each.finished))
        operation = Operation(
            f"op-{token_hex(8)}",
            kind,
            self.node(),
            shown_request(request),
            by,
            self.now,
            self._changed,
        )
        self._operations[operation.id] = operation
        if key is not None:
            self._keys[key.owner, key.text] = key, operation
        self.publish(operation.document)
        return operation

    def _forget(self, operation: Operation) -> None:
        del self._operations[operation.id]
        self.release(operation)

    def release(self, operation: Operation) -> None:
        """Let the key of an operation count for nothing: a repeated request begins anew.

        :param operation: the operation.
        """
        self._keys = {key: kept for key, kept in self._keys.items() if kept[1] is not operation}

    def known(self, key: Key) -> Operation | None:
        """Return the operation that a repeated request asks for, ``None`` for a new one.

        :param key: the request's.
        :raise KeyReused: if it belongs to another request.
        """
        kept = self._keys.get((key.owner, key.text))
        if kept is None:
            return None
        if kept[0] != key:
            raise KeyReused
        return kept[1]

    def _changed(self, operation: Operation) -> None:
        if operation.state in ENDS:
            self.ended[operation.kind, operation.state] += 1
        self.publish(operation.document)

    def find(self, id: str) -> Operation | None:  # noqa: A002
        """Return an operation, ``None`` if there is none of that id.

        :param id: its id.
        """
        return self._operations.get(id)

    def _unfinished(self) -> Iterator[Operation]:
        return (each for each in self._operations.values() if not each.finished)

    def on_their_way(self) -> list[Operation]:
        """Return the operations that have not ended, oldest first."""
        return list(self._unfinished())

    def unfinished(self) -> list[dict[str, Any]]:
        """Return the documents of those that have not ended, oldest first."""
        return [each.document for each in self._unfinished()]

    def documents(self) -> list[dict[str, Any]]:
        """Return the documents of all, newest first."""
        return [each.document for each in reversed(self._operations.values())]
