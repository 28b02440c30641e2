"""Reconcile loops: what turns claims into labs and keeps them so."""
