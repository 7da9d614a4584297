"""The REST surface that the ``memfuse`` SDK speaks, over the service's own routines."""
