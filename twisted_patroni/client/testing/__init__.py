"""A cluster in memory, to test programs with that use the client.

Nothing of it opens a socket, and no time passes but by its clock.
"""

from twisted_patroni.client.testing.cluster import MemoryCluster

__all__ = ["MemoryCluster"]
