"""The suite on other kernels: ``python -m tests.matrix``."""
