"""A lab on this machine: one network namespace with an echo server for each local workload."""
