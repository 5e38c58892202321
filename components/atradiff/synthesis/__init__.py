"""Task-conditioned synthesis: estimate the length, pick the denoiser, sample, prune."""
