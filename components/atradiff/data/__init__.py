"""Offline data: from an environment or a Minari dataset to windows of normalised rows."""
