"""HTTP: from bytes to an endpoint and back to bytes."""
