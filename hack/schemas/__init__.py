"""Definitions of Educates' kinds and of Storages as files, for kubectl; made of `hack/standins/crds.py`."""
