"""The models, one a file: a typed config and a module each, no I/O and no sharding."""
