"""Sharded embedding tables of training, and the copies between them and plain ones."""
