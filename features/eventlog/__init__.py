"""The event log: what Kafka said, once, in Delta tables that keep when each thing happened and when it was known."""
