"""Embedded control plane: a mesh file served as real delta xDS."""
