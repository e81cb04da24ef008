"""A real PostgreSQL cluster on loopback: to try the package out, and to test and measure it."""

from twisted_patroni.demo.cluster import Cluster
from twisted_patroni.demo.layout import CannotStart, Place
from twisted_patroni.demo.node import Node
from twisted_patroni.demo.views import View

__all__ = ["CannotStart", "Cluster", "Node", "Place", "View"]
