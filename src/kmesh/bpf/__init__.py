"""The kernel's side: load, attach, read and write the pinned maps."""
