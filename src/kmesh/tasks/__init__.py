"""Asynchronous edges: each has run() and statistics()."""
