"""What `twistd patroni` runs: its options, and the service made of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

if TYPE_CHECKING:
    from twisted.application.service import IService


class Options(UsageOptions):
    """The command line of ``twistd patroni``."""

    synopsis = "[options] --config FILE"
    longdesc = "Run a Patroni node, with the configuration that upstream's patroni takes."
    optParameters = [  # noqa: RUF012
        ["config", "c", "", "Patroni's YAML file, or a directory of such files."],
    ]

    def parseArgs(self, config: str = "") -> None:
        """Take the configuration as the only argument, too, as upstream's command does.

        :param config: the file.
        """
        if config:
            self["config"] = config

    def postOptions(self) -> None:
        """Refuse what cannot work before anything is started."""
        if os.getpid() == 1:
            raise UsageError(
                "this process has number 1 and would have to reap PostgreSQL's orphans:"
                " run it under an init (docker run --init, or tini)"
            )


def makeService(options: Options) -> IService:
    """Return the service of a Patroni node.

    :param options: the parsed command line.
    :raise SystemExit: with one line that says what is wrong with the configuration.
    """
    from twisted.internet import reactor

    from twisted_patroni import renewal, webhooks
    from twisted_patroni.doors import parse_endpoint
    from twisted_patroni.engine.host import UnusableConfiguration, load
    from twisted_patroni.service import PatroniService, leave_process
    from twisted_patroni.settings import Settings, SettingsError

    try:
        loaded = load(options["config"])
        settings = Settings.of(loaded.restapi)
        renewal.load(settings)
        webhooks.check(settings.webhooks)
        for each in settings.doors:
            parse_endpoint(reactor, each)
    except (UnusableConfiguration, SettingsError) as error:
        raise SystemExit(f"patroni: {error}") from error

    parent: Any = options.parent or {}
    pidfile = str(parent.get("pidfile") or "")
    pidfile = os.path.abspath(pidfile) if pidfile else ""
    return PatroniService(reactor, loaded, lambda code: leave_process(code, pidfile))
