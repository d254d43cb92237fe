"""Namespaced pods on this machine, for demos and tests."""
