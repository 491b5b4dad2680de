"""The daily retrain: a module a task of the DAG, whose `run(settings, day)` does it and leaves a typed note."""
