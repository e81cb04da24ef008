"""Ratios against upstream's REST API, measured side by side on one machine."""
