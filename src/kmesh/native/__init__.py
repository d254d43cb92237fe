"""The one C extension: scanning, batching, BPF system calls."""
