"""The endpoints, one noun a file."""

from pg_steadytext.memory.api.routes import memories

ROUTERS = (memories.router,)
