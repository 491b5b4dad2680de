"""Training windows: immutable, named by what they hold."""
