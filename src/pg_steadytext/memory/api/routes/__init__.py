"""The endpoints, one noun a file."""

from pg_steadytext.memory.api.routes import (
    account,
    admin,
    attached,
    auth,
    bulk,
    duplicates,
    facts,
    feeds,
    flags,
    live,
    memories,
    people,
    reminders,
    search,
    spending,
    sync,
)

# The paths of an import, an export and a search come before a memory's, which they look like; so with reminders.
ROUTERS = (
    bulk.router, search.router, memories.router, attached.router, people.router, auth.router,
    account.router, admin.router, spending.router, feeds.router, live.router, reminders.router,
    sync.router, duplicates.router, flags.router, facts.router,
)  # fmt: skip
