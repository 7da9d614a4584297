"""Work that leaves the caller's transaction: the worker process and what it runs."""
