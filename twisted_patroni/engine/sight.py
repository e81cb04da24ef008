"""Looks at the DCS: numbered, made into views once, and told of."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.logger import Logger

from twisted_patroni.engine.interface import Look
from twisted_patroni.engine.views import cluster_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from patroni.dcs import AbstractDCS, Cluster

    from twisted_patroni.engine.interface import ClusterView

_log = Logger()


@define(eq=False)
class Sight:
    """What this process sees of the cluster in the DCS; it may look in any thread.

    :param dcs: upstream's client of the DCS.
    :param looked: told, in the thread that looked, of each look.
    :ivar begun: how many looks have been begun.
    :ivar cluster: what the last one showed.
    :ivar config: the version and the content of the dynamic configuration last seen.
    """

    dcs: AbstractDCS
    looked: Callable[[Look], None]
    begun: int = field(default=0, init=False)
    cluster: Cluster | None = field(default=None, init=False)
    config: tuple[Any, Mapping[str, Any]] | None = field(default=None, init=False)
    _get_cluster: Callable[[], Cluster] = field(init=False)
    _answered: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)
    _lock: Lock = field(factory=Lock, init=False)
    _viewed: tuple[Cluster, ClusterView] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._get_cluster = self.dcs.get_cluster

    @property
    def answers(self) -> bool:
        """Whether the DCS has answered the last look that has ended."""
        return self._answered >= self._failed

    def observe(self) -> None:
        """Have every look the engine itself takes count and told of, too."""

        def get_cluster() -> Cluster:
            number, cluster = self._ask()
            try:
                self._tell(number, cluster)
            except Exception:  # the HA loop must go on, whatever is wrong with our view of it
                _log.failure("A look at the DCS could not be reported")
            return cluster

        self.dcs.get_cluster = get_cluster  # type: ignore[method-assign]

    def look(self) -> tuple[Look, Cluster]:
        """Look; blocks, and raises what upstream raises."""
        number, cluster = self._ask()
        return self._tell(number, cluster), cluster

    def view(self, cluster: Cluster) -> ClusterView:
        """Return the view of upstream's object, which is made once.

        :param cluster: the object.
        """
        viewed = self._viewed
        if viewed is not None and viewed[0] is cluster:
            return viewed[1]
        view = cluster_view(cluster)
        if view.config is not None:  # without one the mode is the engine's, which may change
            self._viewed = cluster, view
        return view

    def _ask(self) -> tuple[int, Cluster]:
        with self._lock:
            self.begun += 1
            number = self.begun
        try:
            cluster = self._get_cluster()
        except Exception:
            with self._lock:
                self._failed = max(self._failed, number)
            raise
        with self._lock:
            self._answered = max(self._answered, number)
        return number, cluster

    def _tell(self, number: int, cluster: Cluster) -> Look:
        self.cluster = cluster
        # The engine may put its own values into its copy of the configuration later.
        view = self.view(cluster)
        if cluster.config is not None and view.config is not None:
            self.config = cluster.config.modify_version, view.config
        look = Look(number, view)
        self.looked(look)
        return look
