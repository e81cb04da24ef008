"""From a request for an operation to its answer: at once, when it is done, or in between."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrs import define, frozen
from twisted.internet.defer import TimeoutError as DeferredTimeout

from twisted_patroni.operations import (
    RETRY_AFTER,
    BadHeader,
    BookFull,
    Key,
    KeyReused,
    Origin,
    Outcome,
    Preferences,
    parse_key,
    parse_prefer,
)
from twisted_patroni.web.answers import Answer, json_answer, text_answer
from twisted_patroni.web.resource import refuse
from twisted_patroni.web.routing import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.operations import Desk, Kind, Operation
    from twisted_patroni.web.request import ApiRequest
    from twisted_patroni.web.resource import Call

#: Seconds for which a client that prefers not to wait waits all the same: mostly it is known by
#: then whether the request is refused.
ACCEPTING = 2.0

#: What each endpoint that begins an operation looks at.
HEADERS = (
    Parameter("Prefer", "`respond-async`: answer 202 and the operation; `wait=N`: not at once."),
    Parameter("Idempotency-Key", "A repeated request with the same key begins nothing new."),
)
ACCEPT = Parameter("Accept", "`application/json`: explain a refusal as JSON.")
DRY_RUN = Parameter("dry_run", "`true`: tell what would happen, and do nothing.")


@frozen
class Order:
    """A request for an operation.

    :param kind: what to do.
    :param body: the JSON object of the request.
    :param preferences: what the client prefers.
    :param key: by what the request is known if it is repeated.
    """

    kind: Kind
    body: Mapping[str, Any]
    preferences: Preferences
    key: Key | None


def origin(call: Call) -> Origin:
    """Return who has sent a request.

    :param call: the request.
    """
    request = call.request
    certificate = request.channel.client_certificate
    subject = None if certificate is None else certificate.subject
    return Origin(request.user, subject, request.client_host or "unix")


def _values(request: ApiRequest, name: str) -> list[str]:
    raw = request.requestHeaders.getRawHeaders(name.encode(), [])
    return [value.decode("latin-1") for value in raw]


def read_order(call: Call, kind: Kind, body: Mapping[str, Any]) -> Order:
    """Read what a request for an operation says about its answer.

    :param call: the request.
    :param kind: what it asks for.
    :param body: its JSON object.
    :raise Refused: if one of its headers cannot be understood.
    """
    request = call.request
    try:
        preferences = parse_prefer(_values(request, "prefer"))
        text = parse_key(_values(request, "idempotency-key"))
    except BadHeader as error:
        raise refuse(400, str(error)) from error
    key = None
    if text is not None:
        content = b"" if request.content is None else request.content.getvalue()
        told = request.method, call.path, sha256(content).hexdigest()
        by = origin(call)
        key = Key((by.user, by.certificate), text, told)
    return Order(kind, body, preferences, key)


def wants_dry_run(call: Call) -> bool:
    """Tell whether only a forecast is asked for.

    :param call: the request.
    :raise Refused: if that is not clear.
    """
    word = call.query.get("dry_run", "false")
    if word not in ("true", "false"):
        sentence = f"dry_run: expected true or false, but got {word[:40]!r}"
        raise refuse(400, sentence)
    return word == "true"


def wants_json(call: Call) -> bool:
    """Tell whether a client asks for JSON by its name; ``*/*`` is no wish.

    :param call: the request.
    """
    for value in _values(call.request, "accept"):
        for part in value.split(","):
            name, *parameters = (each.strip().lower() for each in part.split(";"))
            weights = [each for each in parameters if each.startswith("q=")]
            if name == "application/json":
                return not any(weight[2:].strip("0.") == "" for weight in weights)
    return False


@define(eq=False)
class Orders:
    """Has operations begun, and answers who asks for them.

    :param desk: carries them out.
    :param clock: for those who wait for a while only.
    """

    desk: Desk
    clock: IReactorTime

    async def place(
        self,
        call: Call,
        order: Order,
        shown: Callable[[Outcome], Answer] | None = None,
        *,
        replace: bool = False,
    ) -> Answer:
        """Answer a request for an operation.

        :param call: the request.
        :param order: what it asks for.
        :param shown: makes the answer of an outcome, if that is not its sentence.
        :param replace: a configuration is the whole one, not a patch.
        """
        operation, known = self._operation(call, order, replace)
        preferences = order.preferences
        try:
            later = preferences.respond_async
            if later and not await self._refused_or_over(operation, preferences.wait):
                return _begun(operation)
            outcome = await self.desk.answer(operation, again=known)
        finally:
            if order.key is None:
                operation.answered.forget()
        return await self._told(call, outcome, shown)

    def _operation(self, call: Call, order: Order, replace: bool) -> tuple[Operation, bool]:
        """Return the operation of an order, and whether it was known already."""
        try:
            known = None if order.key is None else self.desk.book.known(order.key)
            if known is not None:
                return known, True
            begun = self.desk.begin(
                order.kind,
                order.body,
                origin(call),
                order.key,
                detached=order.preferences.respond_async,
                replace=replace,
            )
        except KeyReused as error:
            sentence = "Idempotency-Key: it belongs to another request"
            raise refuse(422, sentence) from error
        except BookFull as error:
            sentence = "too many operations are on their way"
            headers = (("Retry-After", str(RETRY_AFTER)),)
            raise refuse(429, sentence, headers) from error
        return begun, False

    async def _refused_or_over(self, operation: Operation, wait: int) -> bool:
        """Tell, after a while, whether there is an answer that is better than "later"."""
        began = self.clock.seconds()
        await self._within(operation.accepted.wait(), max(wait, ACCEPTING))
        left = wait - (self.clock.seconds() - began)
        if left > 0:
            await self._within(operation.over.wait(), left)
            return operation.finished
        return operation.refused

    async def _within(self, waiting: Deferred[None], seconds: float) -> None:
        try:
            await waiting.addTimeout(seconds, self.clock)
        except DeferredTimeout:
            return

    async def _told(
        self, call: Call, outcome: Outcome, shown: Callable[[Outcome], Answer] | None
    ) -> Answer:
        if outcome.refusal is not None and wants_json(call):
            explained = await self.desk.leadership.explain(outcome.refusal)
            return json_answer({"error": outcome.sentence, **explained}, outcome.code)
        return told(outcome) if shown is None else shown(outcome)


def _begun(operation: Operation) -> Answer:
    headers = (
        ("Location", f"/operations/{operation.id}"),
        ("Preference-Applied", "respond-async"),
    )
    return json_answer(operation.document, 202, headers)


def told(outcome: Outcome) -> Answer:
    """Answer with the sentence of an outcome.

    :param outcome: the outcome.
    """
    return text_answer(outcome.code, outcome.sentence)
