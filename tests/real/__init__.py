"""Tests against the real engine, PostgreSQL, etcd, HAProxy and patronictl."""
