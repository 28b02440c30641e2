"""Tests of the Workspace API."""
