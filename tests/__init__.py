"""Tests of twisted_patroni: one module for each module they test."""
