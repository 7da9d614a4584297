"""What the service keeps: its schema, its statements, its connections."""
