"""An agent with a memory: actor and critic on one LSTM, which forgets when an episode ends.

The loss is that of Schulman et al., "Proximal Policy Optimization Algorithms" (2017),
https://arxiv.org/abs/1707.06347. While acting, the LSTM takes one step a call; while learning, it
goes over the steps between two resets at once, of whichever environment. It uses `torch.nn.LSTM`
only, as agents in public code do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """T steps of B environments; ``[T, B]`` each, observations ``[T, B, F]``.

    `begins` is 1 where a step is the first of its episode.
    """

    observations: Tensor
    begins: Tensor
    actions: Tensor
    old_log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor


class ActorCritic(nn.Module):
    """Observations to logits of actions ``[T, B, A]`` and values ``[T, B]``."""

    def __init__(self, observation_size: int, actions: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.encoder = nn.Sequential(
            *(nn.Linear(observation_size, hidden_size), nn.Tanh()),
            *(nn.Linear(hidden_size, hidden_size), nn.Tanh()),
        )
        self.rnn = nn.LSTM(hidden_size, hidden_size)
        self.actor = nn.Linear(hidden_size, actions)
        self.critic = nn.Linear(hidden_size, 1)

    def initial_state(self, batch_size: int) -> State:
        zeros = self.actor.weight.new_zeros(1, batch_size, self.hidden_size)
        return zeros, zeros

    def forward(
        self, observations: Tensor, begins: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        x = self.encoder(observations)
        # Where any environment begins anew, a new piece begins for all of them.
        cuts = begins[1:].any(dim=1).nonzero().flatten() + 1
        outputs = []
        for piece, first in zip(x.tensor_split(cuts), begins[[0, *cuts.tolist()]], strict=True):
            keep = (1 - first)[:, None]
            y, state = self.rnn(piece, (state[0] * keep, state[1] * keep))
            outputs.append(y)
        y = torch.cat(outputs)
        return self.actor(y), self.critic(y).squeeze(2), state


def predict(model: ActorCritic, batch: Batch) -> Tensor:
    """Act: one step a call. Logits of all steps, ``[T, B, A]``."""
    state = model.initial_state(batch.begins.shape[1])
    steps = []
    for observation, begin in zip(batch.observations, batch.begins, strict=True):
        logits, _, state = model(observation[None], begin[None], state)
        steps.append(logits)
    return torch.cat(steps)


def loss(model: ActorCritic, batch: Batch) -> Tensor:
    logits, values, _ = model(
        batch.observations, batch.begins, model.initial_state(batch.begins.shape[1])
    )
    log_all = logits.log_softmax(2)
    log_taken = log_all.gather(2, batch.actions[..., None]).squeeze(2)
    ratio = (log_taken - batch.old_log_probabilities).exp()
    clipped = ratio.clamp(0.8, 1.2)
    policy = -torch.minimum(ratio * batch.advantages, clipped * batch.advantages).mean()
    value = (values - batch.returns).square().mean()
    entropy = -(log_all.exp() * log_all).sum(2).mean()
    return policy + 0.5 * value - 0.01 * entropy


def random_batch(
    environments: int, steps: int, observation_size: int, actions: int, episode: float = 100
) -> Batch:
    """Episodes of `episode` steps on average."""
    shape = (steps, environments)
    return Batch(
        observations=torch.randn(*shape, observation_size),
        begins=(torch.rand(shape) < 1 / episode).float(),
        actions=torch.randint(0, actions, shape),
        old_log_probabilities=torch.full(shape, 1 / actions).log(),
        advantages=torch.randn(shape),
        returns=torch.randn(shape),
    )
