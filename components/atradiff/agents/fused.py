"""SAC's update with its gradients written out: the numbers of `SAC` up to rounding, in two thirds of the time where networks are small.

Networks of this size cost less than asking for them: autograd's graph, and new memory for every operation, take as long as the
arithmetic. So both ways through a network are plain calls into memory that is kept, and the gradients go straight to where Adam reads
them. A critic's value is one column, which libraries of matrix products are slow at: its products are sums and rows here. `SAC` is the
text to read; a test holds this one to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.networks import LAYER_NORM_EPSILON, LOG_STD_RANGE, EnsembleMLP
from atradiff.agents.sac import SAC
from atradiff.products import baddbmm, bmm
from atradiff.trajectory import Spec, TransitionBatch


class Pass:
    """The way through an `EnsembleMLP` and back, for batches of one size or a few."""

    def __init__(self, net: EnsembleMLP, members: int | None = None) -> None:
        self._layer_norm = net.layer_norm
        self._weights, self._biases = ([p.detach() for p in parameters] for parameters in (net.weights, net.biases))
        self._transposed = [weight.mT for weight in self._weights]
        self._members = members or len(self._weights[0])
        self._rooms: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self._outputs: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._inputs: list[Tensor] = []
        self._norms: list[tuple[Tensor, Tensor]] = []
        self._masks: Sequence[Tensor] = ()

    def forward(self, x: Tensor, members: Tensor | None = None, masks: Sequence[Tensor] = ()) -> Tensor:
        """`[B, in]` to `[E, B, out]`, of all networks or of those with the given numbers, with what the masks drop dropped out;
        overwritten by the next batch of that size."""
        weights, biases = self._weights, self._biases
        if members is not None:
            weights, biases = ([p.index_select(0, members) for p in parameters] for parameters in (weights, biases))
        if len(x) not in self._rooms:
            self._rooms[len(x)] = self._room(len(x))
        self._outputs, self._gradients = self._rooms[len(x)]
        hidden = x.expand(self._members, *x.shape)
        self._inputs, self._norms, self._masks = [hidden], [], masks
        for k, (weight, bias, output) in enumerate(zip(weights[:-1], biases[:-1], self._outputs, strict=False)):
            hidden = baddbmm(bias, hidden, weight, out=output)
            if masks:
                hidden.mul_(masks[k])
            if self._layer_norm:
                hidden, mean, scale = torch.native_layer_norm(output, output.shape[-1:], None, None, LAYER_NORM_EPSILON)
                self._norms.append((mean, scale))
            self._inputs.append(hidden.relu_())
        if weights[-1].shape[-1] == 1:  # a product with one column takes MKL four times as long
            torch.mul(hidden, weights[-1].mT, out=self._gradients[-1])
            return torch.sum(self._gradients[-1], -1, keepdim=True, out=self._outputs[-1]).add_(biases[-1])
        return baddbmm(biases[-1], hidden, weights[-1], out=self._outputs[-1])

    def backward(self, gradient: Tensor, of_weights: list[Tensor], of_biases: list[Tensor]) -> None:
        """From the gradient of the outputs `[E, B, out]` to those of weights and biases, into the tensors given."""
        for k in reversed(range(len(self._weights))):
            if gradient.shape[-1] == 1:  # the same numbers in one row are ten times as fast as in one column
                bmm(gradient.mT, self._inputs[k], out=of_weights[k].mT)
            else:
                bmm(self._inputs[k].mT, gradient, out=of_weights[k])
            torch.sum(gradient, 1, keepdim=True, out=of_biases[k])
            if k > 0:
                gradient = self._through(k, gradient)

    def backward_to_input(self, gradient: Tensor, first: int) -> Tensor:
        """From the gradient of the outputs `[E, B, out]` to that of the input from column `first` on, `[B, in - first]`."""
        for k in reversed(range(1, len(self._weights))):
            gradient = self._through(k, gradient)
        return bmm(gradient, self._transposed[0][..., first:]).sum(0)

    def _through(self, k: int, gradient: Tensor) -> Tensor:
        """From the gradient of layer k's output to that of the output of the layer before it."""
        if gradient.shape[-1] == 1:
            gradient = torch.mul(gradient, self._transposed[k], out=self._gradients[k])
        else:
            gradient = bmm(gradient, self._transposed[k], out=self._gradients[k])
        torch.ops.aten.threshold_backward.grad_input(gradient, self._inputs[k], 0, grad_input=gradient)
        if self._layer_norm:
            linear, (mean, scale) = self._outputs[k - 1], self._norms[k - 1]
            gradient = torch.ops.aten.native_layer_norm_backward(
                gradient, linear, linear.shape[-1:], mean, scale, None, None, [True, False, False]
            )[0]
        if self._masks:
            gradient.mul_(self._masks[k - 1])
        return gradient

    def _room(self, size: int) -> tuple[list[Tensor], list[Tensor]]:
        """For the outputs of the layers and the gradients of their inputs."""
        outputs, gradients = ([w.new_empty(self._members, size, w.shape[side]) for w in self._weights] for side in (2, 1))
        return outputs, gradients


class Draws(NamedTuple):
    """What one critic update draws, in the order of `ActorCritic.critic_loss`."""

    critic_masks: list[Tensor]
    noise: Tensor
    members: Tensor | None
    target_masks: list[Tensor]


class FusedSAC(SAC):
    """`SAC` whose `update` needs no autograd."""

    def __init__(self, spec: Spec, config: AgentConfig, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        super().__init__(spec, config, generator, device)
        self._critic_gradient, *self._of_critic = flat_gradient(self.critic.net)
        self._actor_gradient, *self._of_actor = flat_gradient(self.actor.net)
        self._critic_pass, self._actor_pass, self._acting_pass = Pass(self.critic.net), Pass(self.actor.net), Pass(self.acting.net)
        self._target_pass = Pass(self.target_critic.net, min(config.num_min_critics, config.num_critics))
        self._share = torch.ones((), device=self.device) / config.batch_size  # of a transition in a mean
        self._of_value = (-self._share / config.num_critics).expand(config.num_critics, config.batch_size, 1).clone()
        self._of_error = 2 / torch.full((), config.num_critics * config.batch_size, device=self.device)

    @torch.no_grad()
    def explored(self, observation: Tensor, noise: Tensor) -> Tensor:
        mean, raw = self._acting_pass.forward(observation)[0].chunk(2, dim=-1)
        return self.actor.draw(mean, raw.clamp(*LOG_STD_RANGE), noise)

    @torch.no_grad()
    def _learn(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """As `ActorCritic.update`; what does not change from one critic update to the next is done for all of them at once."""
        config, parts = self.config, len(batch.reward) // self.config.batch_size
        draws = [self._draw(generator) for _ in range(parts)]
        next_input, added = self._next_input(batch, torch.stack([drawn.noise for drawn in draws], dim=1))
        dealt = (torch.cat([batch.observation, batch.action], -1), next_input, batch.reward, batch.discount)
        dealt = [field.unflatten(0, (-1, parts)).transpose(0, 1).contiguous() for field in dealt]
        error = values = next_input
        for k, (x, next_x, reward, discount) in enumerate(zip(*dealt, strict=True)):
            value = self._target_pass.forward(next_x, draws[k].members, draws[k].target_masks).amin(0)
            if added is not None:
                value += added[k]
            target = reward + discount * value[:, 0]
            values = self._critic_pass.forward(x, masks=draws[k].critic_masks)
            error = values - target[:, None]
            self._critic_pass.backward(error * self._of_error, *self._of_critic)
            self.critic_optimizer.step(self._critic_gradient)
            self._flat_target.lerp_(self.critic_optimizer.flat, config.tau)
        logs = {"critic/loss": error.pow(2).mean(), "critic/value": values.mean()}
        return {**logs, **self.learn_actor(TransitionBatch(*(field[parts - 1 :: parts] for field in batch)), generator)}

    def _draw(self, generator: torch.Generator) -> Draws:
        """For one part of a batch."""
        size = self.config.batch_size
        return Draws(
            self.critic.net.draw_masks(self.config.num_critics, size, generator),
            self._noise(size, generator),
            self._draw_members(generator),
            self.target_critic.net.draw_masks(self.config.num_min_critics, size, generator),
        )

    def _next_input(self, batch: TransitionBatch, noise: Tensor) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """What `ActorCritic.targets` asks the target critics about: their input `[N, D + A]` and, for each part, what is added to their
        value `[B, 1]`, if anything; from the parts' noise `[B, parts, A]`."""
        mean, raw = self._actor_pass.forward(batch.next_observation)[0].chunk(2, dim=-1)
        dealt, parts = noise.flatten(0, 1), noise.shape[1]
        if not self.config.backup_entropy:
            action, added = self.actor.draw(mean, raw.clamp(*LOG_STD_RANGE), dealt), None
        else:
            action, log_density = self.actor.sample(mean, raw.clamp(*LOG_STD_RANGE), dealt)
            added = (-self.log_temperature.exp() * log_density).view(-1, parts, 1).unbind(1)
        return torch.cat([batch.next_observation, action], -1), added

    @torch.no_grad()
    def learn_actor(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """As `SAC.learn_actor`: the second half is the derivative of the first, line by line from its end."""
        half, temperature = self.actor.half_range, self.log_temperature.exp()
        mean, raw = self._actor_pass.forward(batch.observation)[0].chunk(2, dim=-1)
        log_std = raw.clamp(*LOG_STD_RANGE)
        std, noise = log_std.exp(), self._noise(len(mean), generator)
        before = torch.addcmul(mean, std, noise)
        tanh = torch.tanh(before)
        action = torch.addcmul(self.actor.centre, half, tanh)
        log_density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_density = (log_density - 2 * (math.log(2) - before - functional.softplus(-2 * before))).sum(-1)
        masks = self.critic.net.draw_masks(self.config.num_critics, len(mean), generator)
        value, of_value = self._climbed(self._critic_pass.forward(torch.cat([batch.observation, action], -1), masks=masks))
        loss = (temperature * log_density - value).mean()

        of_density = temperature * self._share
        of_action = self._critic_pass.backward_to_input(of_value, self.spec.observation_dim)
        of_before = torch.ops.aten.tanh_backward(of_action * half, tanh).addcmul_(2 * of_density, tanh)
        of_raw = (of_before * noise).mul_(std).sub_(of_density).mul_(raw == log_std)
        of_mean = of_before
        if self.config.imitation_weight > 0:
            tanh = torch.tanh(mean)
            mode = torch.addcmul(self.actor.centre, half, tanh)
            distance, imitated = (mode - batch.action) / half, self.imitated(mode, batch)
            loss = loss + self.config.imitation_weight * (distance.pow(2).sum(-1) * imitated).mean()
            of_distance = (self.config.imitation_weight * self._share * imitated)[:, None] * (2 * distance)
            of_mean = torch.ops.aten.tanh_backward(of_distance / half * half, tanh) + of_mean
        self._actor_pass.backward(torch.cat([of_mean, of_raw], -1)[None], *self._of_actor)
        self.actor_optimizer.step(self._actor_gradient)
        self.temperature_optimizer.step(temperature * (-log_density - self.target_entropy).mean())
        return {"actor/loss": loss, "actor/entropy": -log_density.mean(), "temperature": self.log_temperature.detach().exp()}

    def _climbed(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """`ActorCritic.actor_value` `[B]` of all critics' values `[E, B, 1]`, and the gradient of minus its mean with respect to these."""
        match self.config.actor_value:
            case "mean":
                return values[..., 0].mean(0), self._of_value
            case "min":
                least = values == values.amin(0)
                return values[..., 0].amin(0), -self._share * least / least.sum(0)
            case "first":
                return values[0, :, 0], torch.cat([self._of_value[:1] * len(values), torch.zeros_like(self._of_value[1:])])


def flat_gradient(net: EnsembleMLP) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Room for the gradient `[P]` as `flatten_parameters` lays parameters out, and its parts: of weights and of biases."""
    parameters = list(net.parameters())
    flat = torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    parts = [part.view_as(p) for part, p in zip(flat.split([p.numel() for p in parameters]), parameters, strict=True)]
    return flat, parts[: len(net.weights)], parts[len(net.weights) :]
