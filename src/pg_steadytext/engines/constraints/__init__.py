"""Structured generation: what an answer must satisfy, and the grammar that makes a model keep to it."""
