"""One question per file; run as ``python -m benchmarks.<name>`` from the checkout."""
