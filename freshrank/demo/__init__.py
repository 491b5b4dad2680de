"""The demo: a source's history through every real part, a lived day against the gateway, a second run, a report."""
