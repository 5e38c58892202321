"""Replay: buffers with n-step targets, and the mixing of real, imagined and offline transitions."""
