"""Workspace API and user interface: a process of its own over the same caches."""
