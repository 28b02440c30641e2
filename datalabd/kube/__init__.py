"""The imperative shell around the API server; the only place that knows kr8s."""
