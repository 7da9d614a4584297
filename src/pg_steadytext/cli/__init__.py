"""The ``pg-steadytext`` command."""
