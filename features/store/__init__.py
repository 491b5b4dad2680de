"""Features by Feast: one set of definitions, snapshots of what was known, the same values offline and online."""
