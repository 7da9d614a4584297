"""A private PostgreSQL and the processes beside it.

``PrivateCluster`` makes, starts and stops a PostgreSQL with its own data directory, port and socket directory, run by
the service account (``postgres`` when root calls, else the caller). ``supervisor`` keeps the daemon and the worker
running. ``make up`` and the tests use both; nothing in the daemon or the extension needs them.
"""
