"""All receivers of this node: they follow its events, and come and go with the configuration."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_patroni.events.firsthand import is_firsthand
from twisted_patroni.events.model import encoded
from twisted_patroni.events.stream import Position
from twisted_patroni.webhooks.files import check
from twisted_patroni.webhooks.judging import Message
from twisted_patroni.webhooks.sender import Poster, Sender
from twisted_patroni.webhooks.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IDelayedCall

    from twisted_patroni.events import Event, EventStream
    from twisted_patroni.settings import WebhookSettings

_log = Logger()

#: Seconds that events on their way have when the API shuts. Nothing waits for them.
LAST_CHANCE = 2.0
#: What becomes of events.
RESULTS = ("success", "failure", "dropped")


@define(eq=False)
class Webhooks:
    """Sends each receiver the events that it wants and that this node sees first-hand.

    :param reactor: the reactor.
    :param stream: the events of this node.
    :param identity: returns the cluster's name and the node's.
    :param in_lane: runs what blocks when a connection is made, as long as that may take.
    :param in_local_lane: reads files that must be read before a reload goes on.
    :param random: returns a number from 0 to 1.
    :param make_poster: returns what makes the attempts.
    """

    reactor: Any
    stream: EventStream
    identity: Callable[[], tuple[str, str]]
    in_lane: Callable[..., Deferred[Any]]
    in_local_lane: Callable[..., Deferred[Any]]
    random: Callable[[], float]
    make_poster: Callable[[Any, WebhookSettings, Callable[..., Deferred[Any]]], Poster] = Transport
    _senders: dict[str, Sender] = field(factory=dict, init=False)
    _position: Position = field(init=False)
    _unfollow: Callable[[], None] | None = field(default=None, init=False)
    _end: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._position = self.stream.position

    def check(self, webhooks: Iterable[WebhookSettings]) -> Deferred[None]:
        """Make sure that the files of receivers can be used, of those that are new or changed.

        The others must not keep a reload from what it is for, as a renewed certificate.

        :param webhooks: the receivers.
        :return: fails with :class:`~twisted_patroni.settings.SettingsError` if one cannot.
        """
        known = [sender.settings for sender in self._senders.values()]
        new = [each for each in webhooks if each not in known]
        if all(each.cafile is None and each.certfile is None for each in new):
            return succeed(None)
        return self.in_local_lane(check, new)

    def apply(self, webhooks: Iterable[WebhookSettings]) -> None:
        """Send to these receivers from now on.

        Those that have not changed keep what waits for them; a changed one takes it over.

        :param webhooks: the receivers.
        """
        if self._closed:
            return
        self._pull()
        former, self._senders = self._senders, {}
        for each in webhooks:
            self._senders[each.name] = self._sender(each, former.pop(each.name, None))
        for name, sender in former.items():
            pending = sender.close()
            _log.info(
                "The webhook {name} is removed; {pending} events are not delivered to it",
                name=name,
                pending=pending,
            )
        self._follow()

    def _sender(self, settings: WebhookSettings, former: Sender | None) -> Sender:
        if former is not None and former.settings == settings:
            former.resume()
            return former
        counts: Counter[str] = Counter() if former is None else former.counts
        poster = self.make_poster(self.reactor, settings, self.in_lane)
        sender = Sender(settings, poster, self.reactor, self.random, counts)
        if former is not None:
            for message in former.hand_over():
                if message.type in settings.events:
                    sender.put(message)
        return sender

    def _follow(self) -> None:
        if self._senders and self._unfollow is None:
            self._position = self.stream.position
            self._unfollow = self.stream.follow(self._pull)
        elif not self._senders and self._unfollow is not None:
            self._unfollow()
            self._unfollow = None

    def _pull(self) -> None:
        """Take what is new from the stream."""
        if self._unfollow is None:
            return
        backlog = self.stream.since(self._position)
        if not backlog.complete:
            lost = max(0, self.stream.oldest - 1 - self._position.number)
            _log.warn("{lost} events have come and gone too fast for webhooks", lost=lost)
            for sender in self._senders.values():
                sender.lost(lost)
            backlog = self.stream.since(Position(self.stream.oldest - 1, self.stream.name))
        self._position = self.stream.position
        if not backlog.events:
            return
        try:
            scope, node = self.identity()
            for event in backlog.events:
                self._offer(event, scope, node)
        except Exception:  # others follow the events as well
            _log.failure("Events are not sent to webhooks")

    def _offer(self, event: Event, scope: str, node: str) -> None:
        wanting = [each for each in self._senders.values() if event.type in each.settings.events]
        if not wanting or not is_firsthand(event, node):
            return
        document = {**event.document, "scope": scope, "node": node}
        body = encoded(document).encode()
        message = Message(f"{self.stream.name}.{event.number}", event.type, body)
        for each in wanting:
            each.put(message)

    def close(self) -> None:
        """Take no more events; those on their way have :data:`LAST_CHANCE`, and nobody waits."""
        if self._closed:
            return
        self._pull()
        self._closed = True
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        for name, sender in self._senders.items():
            if sender.pending:
                _log.info(
                    "{pending} events for the webhook {name} have {seconds} seconds left",
                    pending=sender.pending,
                    name=name,
                    seconds=LAST_CHANCE,
                )
            sender.hurry()
        if any(sender.pending for sender in self._senders.values()):
            self._end = self.reactor.callLater(LAST_CHANCE, self._finish)
            for sender in self._senders.values():
                sender.on_idle = self._idle
        else:
            self._finish()

    def _idle(self) -> None:
        if not any(sender.pending for sender in self._senders.values()):
            self._finish()

    def _finish(self) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        self._end = None
        senders, self._senders = self._senders, {}
        for name, sender in senders.items():
            pending = sender.close()
            if pending:
                _log.warn(
                    "{pending} events are not delivered to the webhook {name}",
                    pending=pending,
                    name=name,
                )

    # What the metrics show

    def deliveries(self) -> dict[tuple[str, str], int]:
        """Return how many events had each end, by receiver and end."""
        return {
            (name, result): sender.counts[result]
            for name, sender in self._senders.items()
            for result in RESULTS
        }

    def attempts(self) -> dict[str, int]:
        """Return how many attempts there were, by receiver."""
        return {name: sender.counts["attempts"] for name, sender in self._senders.items()}

    def queued(self) -> dict[str, int]:
        """Return how many events are on their way or wait for it, by receiver."""
        return {name: sender.pending for name, sender in self._senders.items()}
