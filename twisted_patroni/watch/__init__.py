"""``twisted-patroni watch``: what happens in a cluster, as a screen, as lines or as JSON."""
