"""Message brokers that carry enrichments instead of the extension's queue. PostgreSQL stays the truth of what is to do.

The relay sends the ids of pending memories and notes what the broker confirmed. Consumers take a message, ask
PostgreSQL whether there is something to do, describe the memory as ever, and only then delete the message.
"""
