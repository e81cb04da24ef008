"""The twistd plugin: names the command; everything else is in twisted_patroni.tap."""

from twisted.application.service import ServiceMaker

twisted_patroni = ServiceMaker(
    "twisted_patroni",
    "twisted_patroni.tap",
    "Patroni: keep a PostgreSQL cluster available, with an event-driven REST API.",
    "patroni",
)
