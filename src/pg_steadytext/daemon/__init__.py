"""The model daemon: wire protocol, scheduler, server and client."""
