"""The commands of the command line, one group a file; heavy imports happen inside the functions."""
