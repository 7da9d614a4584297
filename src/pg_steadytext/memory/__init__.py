"""The Memory Connector: a memory service for many users, over HTTP, inside limits."""
