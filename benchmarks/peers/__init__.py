"""Other people's idempotency, each as its documentation recommends, on the same table, user and server."""
