"""Labelled requests: what became of each shown item, as known at a cut, and what the user had done before."""
