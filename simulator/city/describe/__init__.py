"""Is the city fair? What can be learnt from it, by which information, and how far from what it knows."""
