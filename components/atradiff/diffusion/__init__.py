"""Diffusion over trajectories: a backbone, the denoiser around it, a sampler, and the one training loop."""
