"""pg_steadytext: deterministic text generation and embeddings for PostgreSQL."""

__version__ = "1.1.0"

__all__ = ["__version__"]
