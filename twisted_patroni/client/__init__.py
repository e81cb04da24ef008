"""The client's side of the API; it needs nothing of the server's rooms."""
