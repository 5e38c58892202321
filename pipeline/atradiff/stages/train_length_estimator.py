"""train_length_estimator: the remaining steps, with the one-step distances that the pruner needs."""

from __future__ import annotations

import torch

from atradiff.data.normalizer import Normalizer
from atradiff.diffusion.training import fit
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, with_hindsight
from atradiff.project.layout import Layout
from atradiff.stages.training import provenance, recorded, seeded, write_record
from atradiff.synthesis.checkpoint import save_length_estimator
from atradiff.synthesis.length_estimator import LengthEstimator, States
from atradiff.synthesis.prune import one_step_distances


def run(params: Params, layout: Layout) -> None:
    """Train on the kept episodes, on the CPU (it is small); measure the pinball loss on the held-out ones."""
    config = params.length_estimator
    kept, held_out = load_split(layout, params)
    learned_from, _ = with_hindsight(kept, params)
    generator = seeded(config.train)
    normalizer = Normalizer.of(kept)
    estimator = LengthEstimator(normalizer, config.network, scale=float(kept.episode_lengths.mean()))
    states = States(learned_from, normalizer)
    with recorded("length estimator", config.train.gradient_steps, "length_estimator.train") as record:
        fit(estimator, lambda g: states.sample(config.train.batch_size, g), config.train, generator, record)
    folder = layout.length_estimator
    save_length_estimator(folder.model, estimator, one_step_distances(kept, normalizer), provenance(layout, config.train.seed))
    unseen = States(held_out, normalizer)
    with torch.no_grad():
        loss, _ = estimator.loss(unseen.at(torch.arange(len(unseen))), generator)
    metrics = {"held_out_loss": float(loss), "states": len(states), "censored_share": float((~kept.episode_terminated).mean())}
    write_record(folder, record.last(config.train.gradient_steps), metrics, "Pinball loss of the length estimator")
