"""train_reward_model: reward and termination of a transition, for the `learned` reward arm."""

from __future__ import annotations

import torch

from atradiff.data.normalizer import Normalizer
from atradiff.diffusion.training import fit
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split
from atradiff.project.layout import Layout
from atradiff.stages.training import provenance, recorded, seeded, write_record
from atradiff.synthesis.checkpoint import save_reward_model
from atradiff.synthesis.reward_model import Outcomes, RewardModel

HELD_OUT_TRANSITIONS = 4096


def run(params: Params, layout: Layout) -> None:
    """Train on the kept episodes, on the CPU (it is small); measure the loss on the held-out ones."""
    config = params.synthesis.reward_model
    kept, held_out = load_split(layout, params)
    generator = seeded(config.train)
    model = RewardModel(Normalizer.of(kept), config.network)
    outcomes = Outcomes(kept, model)
    with recorded("reward model", config.train.gradient_steps, "synthesis.reward_model.train") as record:
        fit(model, lambda g: outcomes.sample(config.train.batch_size, g), config.train, generator, record)
    folder = layout.reward_model
    save_reward_model(folder.model, model, provenance(layout, config.train.seed))
    with torch.no_grad():
        loss, _ = model.loss(Outcomes(held_out, model).sample(HELD_OUT_TRANSITIONS, generator), generator)
    metrics = {"held_out_loss": float(loss)}
    write_record(folder, record.last(config.train.gradient_steps), metrics, "Loss of the reward model")
