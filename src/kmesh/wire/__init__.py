"""Bytes of the control plane turned into the model."""
