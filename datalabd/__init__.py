"""datalabd: from a Datalab claim to a running, bounded lab."""
