"""Why a request has come to nothing: half a sentence about the node, which ends up in errors."""

from __future__ import annotations

import json
from http import HTTPStatus

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from twisted_patroni.client.tls import tls_reason

# How an answer ends, and one without a length.
_END = ResponseDone | PotentialDataLoss


class NoAnswer(Exception):
    """A node gives no answer that is of use; the text says why, in half a sentence."""


def refusal(code: int, body: bytes = b"") -> str:
    """Say in half a sentence how a node has refused.

    :param code: the status.
    :param body: what it says of it, perhaps.
    """
    try:
        phrase = f"answers {code} ({HTTPStatus(code).phrase})"
    except ValueError:
        phrase = f"answers {code}"
    try:
        said = json.loads(body)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return phrase
    return f"{phrase}: {said[:200]}" if isinstance(said, str) else phrase


def root_of(error: BaseException | None) -> BaseException | None:
    """Return what was the matter at first, with a request or an answer that was cut short.

    :param error: what it failed with.
    """
    reasons = getattr(error, "reasons", None)
    return root_of(reasons[0].value) if reasons else error


def is_no_http(error: BaseException | None) -> bool:
    """Tell whether an answer has come that is none of HTTP.

    :param error: what the request failed with.
    """
    # The errors of Twisted's parser are private, so it is known by what it is not.
    root = root_of(error)
    cut = isinstance(root, CancelledError | ConnectError | ConnectionClosed | _END)
    return isinstance(error, ResponseFailed) and not cut and tls_reason(root) is None


def reason_of(error: BaseException | None) -> str:
    """Say in half a sentence why a request has failed.

    :param error: what it failed with.
    """
    if is_no_http(error):
        return "answers with what is not HTTP"
    error = root_of(error)
    if isinstance(error, Refused):
        return "refuses connections"
    if isinstance(error, DNSLookupError):
        return "has a name that cannot be resolved"
    if isinstance(error, ConnectTimeout):
        return "does not answer"
    told = tls_reason(error)
    if told is not None:
        return told
    if isinstance(error, ConnectionClosed | _END):
        return "closed the connection"
    if isinstance(error, ConnectError):
        return f"cannot be reached: {error.osError or error}"
    return f"cannot be asked: {type(error).__name__}"
