"""HTTP in, pure functions of datalabd, HTTP out: what the API server asks before it stores."""
