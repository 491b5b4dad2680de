"""Studies: the papers' tables and figures on our data, each by one command."""
