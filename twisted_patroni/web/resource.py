"""The one way from a routed request to its answer: access, body, handler, errors, disconnect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from attrs import define, evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET

from twisted_patroni.access import Refusal
from twisted_patroni.engine.interface import ConfigConflict, DcsUnavailable, LaneFull
from twisted_patroni.web.answers import Answer, error_page, problem, text_answer
from twisted_patroni.web.routing import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from twisted.python.failure import Failure

    from twisted_patroni.web.answers import Headers
    from twisted_patroni.web.gatekeeper import Verdict
    from twisted_patroni.web.request import Takeover
    from twisted_patroni.web.routing import Endpoint, Handler
    from twisted_patroni.web.site import ApiRequest

_log = Logger()


@frozen
class Refused(Exception):
    """A handler turns a request down with an answer of its own.

    :param answer: what the client gets.
    :param sentence: why, for a handler that says so in another form.
    """

    answer: Answer
    sentence: str = ""


def refuse(code: int, sentence: str, headers: Headers = ()) -> Refused:
    """Return what to raise to turn a request down as our own endpoints do, in JSON.

    :param code: the HTTP status.
    :param sentence: what is wrong.
    :param headers: further headers.
    """
    return Refused(problem(code, sentence, headers), sentence)


def _unfit(sentence: str) -> Refused:
    return Refused(error_page(400, explanation=sentence), sentence)


@frozen
class Call:
    """A request as a handler sees it.

    :param request: the request itself.
    :param endpoint: the declaration it was routed to.
    """

    request: ApiRequest
    endpoint: Endpoint

    @property
    def path(self) -> str:
        """The path asked for, without query."""
        return self.request.target_path

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters, the first of each name, without empty ones."""
        return self.request.query

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters of the declared path."""
        return self.request.path_parameters

    @property
    def bodiless(self) -> bool:
        """Whether the client asked for no body: HEAD and OPTIONS."""
        return self.request.method in (b"HEAD", b"OPTIONS")

    def json(self) -> dict[str, Any]:
        """Return the request's body, a JSON object.

        :raise Refused: with the fitting 4xx if there is none or it is something else.
        """
        optional = self.endpoint.body is not None and self.endpoint.body.optional
        headers = self.request.requestHeaders
        if not headers.hasHeader(b"content-length") and not headers.hasHeader(b"transfer-encoding"):
            if optional:
                return {}
            raise Refused(error_page(411), "The body has no length")
        assert self.request.content is not None
        content = self.request.content.read()
        if not content and optional:
            return {}
        try:
            value = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _unfit(f"The body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise _unfit("The body is not a JSON object")
        if not value and not optional:
            raise _unfit("The body is an empty JSON object")
        return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")


def known_error(error: BaseException | None) -> Answer | None:
    """Return the answer to an error that a request may meet, ``None`` to a defect.

    :param error: what a handler raised.
    """
    match error:
        case Refused(answer=answer):
            return answer
        case LaneFull(lane=lane, retry_after=seconds):
            sentence = f"too many requests of this kind ({lane}) are under way"
            return text_answer(503, sentence, (("Retry-After", str(seconds)),))
        case DcsUnavailable(reason=reason):
            return text_answer(503, f"DCS is not accessible: {reason}")
        case ConfigConflict():
            return error_page(409, explanation=str(error))
    return None


@define(eq=False)
class Responder:
    """Answers routed requests.

    :param judge: decides on access from the endpoint and the request.
    """

    judge: Callable[[Endpoint, ApiRequest], Verdict]

    def admit(self, request: ApiRequest) -> Answer | None:
        """Route a request and decide, before a body is read, whether it may go on.

        :param request: its head is complete.
        :return: the refusal, or ``None``.
        """
        place = request.resource
        endpoint = place.endpoint_for(request) if isinstance(place, Place) else None
        if endpoint is None:
            return unsupported(request)
        verdict = self.judge(endpoint, request)
        if isinstance(verdict, Refusal):
            return _refused(verdict)
        if verdict is not None and endpoint.handler is not None:
            request.endpoint = evolve(endpoint, handler=_after(verdict, endpoint.handler))
        if endpoint.body is not None and endpoint.body.limit is not None:
            request.body_limit = endpoint.body.limit
        return None

    def render(self, request: ApiRequest, endpoint: Endpoint | None) -> int:
        """Answer a request that was admitted, as soon as its handler is done.

        :param request: the complete request.
        :param endpoint: what it was routed to.
        """
        if endpoint is None or endpoint.handler is None:
            request.answer(unsupported(request))
            return NOT_DONE_YET
        handled = endpoint.handler(Call(request, endpoint))
        answer = handled if isinstance(handled, Deferred) else Deferred.fromCoroutine(handled)
        # Two callbacks, and no notifyFinish: this is done for each health check.
        request.abandon = answer.cancel
        answer.addCallbacks(_give, _answer_error, callbackArgs=(request,), errbackArgs=(request,))
        answer.addErrback(lambda failure: _log.failure("An answer was not sent", failure))
        return NOT_DONE_YET


def _give(reply: Answer | Takeover, request: ApiRequest) -> None:
    if isinstance(reply, Answer):
        request.answer(reply)
    else:
        request.give_to(reply)


def _refused(refusal: Refusal) -> Answer:
    return text_answer(refusal.code, refusal.sentence, refusal.headers)


def _after(verdict: Callable[[], Awaitable[Refusal | None]], handler: Handler) -> Handler:
    """Return a handler that goes on to another one if a verdict allows it."""

    async def wait_and_handle(call: Call) -> Answer | Takeover:
        refusal = await verdict()
        return await handler(call) if refusal is None else _refused(refusal)

    return wait_and_handle


def _answer_error(failure: Failure, request: ApiRequest) -> None:
    """Answer what a handler raised, after logging it if it is a defect."""
    if failure.check(CancelledError):  # the client has left, or the API is shutting down
        request.answer(error_page(503))
        return
    known = known_error(failure.value)
    if known is None:
        _log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
    request.answer(known or error_page(500))


def unsupported(request: ApiRequest) -> Answer:
    """Answer a method that a path does not have; `patronictl` looks for this sentence.

    :param request: the request.
    """
    method = request.method.decode("latin-1")
    return error_page(
        501, f"Unsupported method ({method!r})", "Server does not support this operation"
    )
