"""CameNN's network, Eq. 4: shared bottom, gated experts that run on the sequences that chose them, task towers.

Shape suffixes: B requests, U tokens of the user's side, S sequences, C tokens of a candidate, D width, M experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainer.runtime.models.layers.encoder import EncoderBlock, KeysValues
from trainer.runtime.models.layers.gates import TopKGate
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.packing import Group, back, groups
from trainer.runtime.models.layers.tokens import InputTokens

CHUNK = 256  # candidates encoded at once outside training: bounds memory for lists of a thousand


class TransformerFrame(nn.Module):
    """`X = f_shared(E)`, `X^k = Σ_j g_j^k(E) f_j(X)`, and the [CLS] that tower k reads of `X^k`.

    Every f is one encoder block. With `prefix` the user's tokens attend among themselves alone and are mixed by a gate
    that reads their mean; a candidate's tokens attend to the user's and to their own, and are mixed by a gate that
    reads the mean of the user's side and that of its own. Nothing on the user's side depends on a candidate then, so it
    is encoded once a request; the user's keys and values are made for those experts that a candidate chose. Without
    `prefix` all tokens form one sequence a candidate.

    Args:
        width: Width of tokens (n_E).
        block: Makes an encoder block of that width.
        experts: Experts (M).
        top_k: Experts that a gate keeps.
        tasks: Tasks; each has its gate and its tower.
        prefix: Tasks that read a user's side encoded on its own; None for joint attention.
    """

    def __init__(
        self,
        width: int,
        block: Callable[[], EncoderBlock],
        experts: int,
        top_k: int,
        tasks: Sequence[str],
        prefix: Sequence[str] | None,
    ) -> None:
        super().__init__()
        self.prefix = prefix is not None
        self.shared = block()
        self.experts = nn.ModuleList(block() for _ in range(experts))
        self.towers = nn.ModuleDict({task: block() for task in tasks})
        self.gates = nn.ModuleDict({task: TopKGate(width * (1 + self.prefix), experts, top_k) for task in tasks})
        self.user_gates = nn.ModuleDict({task: TopKGate(width, experts, top_k) for task in prefix or ()})
        self.expert_use: dict[str, Tensor] = {}

    def gate_weights(self, tokens: InputTokens, tasks: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights of the experts by task: [B, M] for the user's side (with `prefix`), [S, M] for the candidates."""
        own_SD = masked_mean(tokens.own_SCD, tokens.own_mask_SC)
        if not self.prefix:
            return {}, {task: self.gates[task](own_SD) for task in tasks}
        user_BD = masked_mean(tokens.user_BUD, tokens.user_mask_BU)
        both_SE = torch.cat([user_BD.index_select(0, tokens.request_S), own_SD], dim=1)
        return (
            {task: self.user_gates[task](user_BD) for task in tasks if task in self.user_gates},
            {task: self.gates[task](both_SE) for task in tasks},
        )

    def forward(self, tokens: InputTokens, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Encode candidates.

        Args:
            tokens: The input.
            tasks: Tasks wanted; experts that none of them chose do not run.

        Returns:
            Task → the target's [CLS] as its tower sees it, [S, D].
        """
        if not self.prefix:
            tokens = tokens.joined()
        user_weights, weights = self.gate_weights(tokens, tasks)
        gated = weights | {f"{task}_user": w for task, w in user_weights.items()}
        self.expert_use = {name: (w.detach() > 0).float().mean(dim=0) for name, w in gated.items()}
        user = self._user_side(tokens, user_weights, weights) if tokens.user_BUD.shape[1] else None
        found = groups(tokens.own_mask_SC, None if self.training else CHUNK)
        parts = [self._candidates(tokens, group, user, weights) for group in found]
        return {task: back([part[task] for part in parts], found) for task in tasks}

    def _user_side(self, tokens: InputTokens, user_weights: dict[str, Tensor], weights: dict[str, Tensor]) -> _UserSide:
        """Keys and values of the user's side for the shared bottom, the chosen experts and the towers."""
        mask_BU = tokens.user_mask_BU
        shared = self.shared.keys_values(tokens.user_BUD, mask_BU)
        x_BUD = self.shared(tokens.user_BUD, mask_BU)
        mixed = {task: torch.zeros_like(x_BUD) for task in user_weights}
        experts: dict[int, tuple[KeysValues, Tensor]] = {}
        for j, expert in enumerate(self.experts):
            run = chosen(user_weights, j)
            if len(run):
                add_expert(mixed, user_weights, j, run, expert(x_BUD[run], mask_BU[run]))
            asked = torch.unique(tokens.request_S[chosen(weights, j)])
            if len(asked):
                place_B = torch.zeros(len(x_BUD), dtype=torch.long, device=x_BUD.device)
                place_B[asked] = torch.arange(len(asked), device=x_BUD.device)
                experts[j] = _keys_values(expert, x_BUD[asked], mask_BU[asked]), place_B
        towers = {task: _keys_values(self.towers[task], x, mask_BU) for task, x in mixed.items()}
        return _UserSide(shared, experts, towers)

    def _candidates(
        self, tokens: InputTokens, group: Group, user: _UserSide | None, weights: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        own_SCD, mask_SC, request_S = group.of(tokens.own_SCD), group.mask_RK, tokens.request_S[group.row_R]
        weights = {task: w[group.row_R] for task, w in weights.items()}
        x_SCD = self.shared(own_SCD, mask_SC, user.shared.take(request_S) if user else None)
        mixed = {task: torch.zeros_like(x_SCD) for task in weights}
        for j, expert in enumerate(self.experts):
            run = chosen(weights, j)
            if len(run):
                prefix = None
                if user:
                    known, place_B = user.experts[j]
                    prefix = known.take(place_B[request_S[run]])
                add_expert(mixed, weights, j, run, expert(x_SCD[run], mask_SC[run], prefix))
        return {
            task: self.towers[task](x, mask_SC, user.towers[task].take(request_S) if user else None, first=1)[:, 0]
            for task, x in mixed.items()
        }


class _UserSide:
    """What candidates attend to: keys and values by stage; an expert's hold the asked requests and where each lies."""

    def __init__(
        self, shared: KeysValues, experts: dict[int, tuple[KeysValues, Tensor]], towers: dict[str, KeysValues]
    ) -> None:
        self.shared, self.experts, self.towers = shared, experts, towers


def _keys_values(block: nn.Module, x: Tensor, mask: Tensor) -> KeysValues:
    assert isinstance(block, EncoderBlock)
    return block.keys_values(x, mask)


def chosen(weights: dict[str, Tensor], expert: int) -> Tensor:
    """Rows for which any task chose the expert."""
    return torch.stack([w[:, expert] > 0 for w in weights.values()]).any(dim=0).nonzero().flatten()


def add_expert(mixed: dict[str, Tensor], weights: dict[str, Tensor], expert: int, rows: Tensor, y_RLD: Tensor) -> None:
    """Add an expert's weighted output to the mixtures of the tasks."""
    for task, w in weights.items():
        mixed[task].index_add_(0, rows, w[rows, expert].view(-1, *[1] * (y_RLD.dim() - 1)) * y_RLD)
