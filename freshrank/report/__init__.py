"""The report of a run: one self-contained page, and `summary.json` beside it with every figure of the page."""
