"""The store: embeddings that keep themselves up to date."""
