"""The rooms that know the `patroni` package; nothing else imports it."""
