"""``twisted-patroni endpoint``: where the primary is, or the replicas are, for scripts."""
