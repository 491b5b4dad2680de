"""Bundles and servers for tests of serving."""
