"""Who sees which item, by which model: Triton repository, ranker, gateway, experiments."""
