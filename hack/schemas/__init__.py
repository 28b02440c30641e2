"""Definitions of Educates' kinds as files, for kubectl; made of `hack/standins/crds.py`."""
