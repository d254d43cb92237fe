"""Layout of everything shared with the BPF programs."""
