"""Brings a fresh Debian or Ubuntu to where ``pg-steadytext`` can run; standard library only.

Each module is one thing to have: packages, pgvector, a virtual environment, the extension in PostgreSQL's folders,
models. Each looks first whether it is there, by content and not by date, so that a second run takes seconds.
"""
