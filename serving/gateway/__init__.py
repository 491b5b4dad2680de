"""The ranking gateway: HTTP in, ranked list out. Runs in its own environment, which has no torch."""
