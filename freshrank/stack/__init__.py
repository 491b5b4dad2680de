"""The local stack: real servers as plain processes on loopback, under one supervisor."""
