"""The pure core: no event loop, clock, randomness, files, logging or C."""
