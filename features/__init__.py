"""What happened, and what was known when it happened: events, event log, labels, features, content tokens, windows."""
