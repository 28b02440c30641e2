"""Claims and environments as the API server serves them: types only, no I/O."""
