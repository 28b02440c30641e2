"""Educates as the runtime of sessions: its three resources, and what has to be done because it acts only once."""
