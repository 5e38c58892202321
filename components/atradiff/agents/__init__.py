"""Off-policy agents. They learn from `TransitionBatch` and know nothing of diffusion."""
