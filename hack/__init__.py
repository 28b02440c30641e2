"""Development tools: the local test cluster and what is built on it. Nothing here is shipped."""
