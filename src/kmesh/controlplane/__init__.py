"""Embedded control plane: a mesh file, or a program, served as delta xDS over gRPC."""
