"""Typed queues between tasks; each tells its statistics."""
