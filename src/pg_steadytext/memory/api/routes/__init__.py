"""The endpoints, one noun a file."""

from pg_steadytext.memory.api.routes import (
    account,
    admin,
    attached,
    auth,
    bulk,
    feeds,
    live,
    memories,
    people,
    reminders,
)

# The paths of an import and an export come before a memory's, which they look like; so with reminders.
ROUTERS = (
    bulk.router, memories.router, attached.router, people.router, auth.router, account.router, admin.router,
    feeds.router, live.router, reminders.router,
)  # fmt: skip
