"""The endpoints, one noun a file."""

from pg_steadytext.memory.api.routes import account, admin, attached, auth, bulk, memories, people, sync

# The paths of an import and an export come before a memory's, which they look like.
ROUTERS = (
    bulk.router, memories.router, attached.router, people.router, auth.router, account.router, admin.router,
    sync.router,
)  # fmt: skip
