"""How to run it: command line, settings, local stack, event sources, demo and report."""
