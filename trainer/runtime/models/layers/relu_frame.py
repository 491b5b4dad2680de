"""CameNN's MMoE frame (Table 4): shared bottom, experts and towers are fully connected ReLU layers (Ma et al. 2018).

Shape suffixes: S sequences, F values of the flat input, D width, M experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.layers.gates import TopKGate
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.mixture import add_expert, chosen
from trainer.runtime.models.layers.mlp import Dropout
from trainer.runtime.models.layers.tokens import InputTokens


class ReluFrame(nn.Module):
    """Fully connected layers on a flat view of E_Input.

    Flat are, side by side: each field of user, context and candidate; the mean of the history; the target's [CLS]; the
    mean of its text; the mean of its image. Whatever an alignment pass masks is zero.

    Args:
        width: Width of tokens (D).
        hidden: Width of the shared bottom.
        dropout: Share dropped after the shared bottom.
        experts: Experts (M).
        top_k: Experts that a gate keeps.
        tasks: Tasks.
        fields: Fields of user and context, and of candidate and crosses.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout: float,
        experts: int,
        top_k: int,
        tasks: Sequence[str],
        fields: tuple[int, int],
    ) -> None:
        super().__init__()
        self.width, self.fields = width, fields
        flat = width * (sum(fields) + 4)
        self.shared = nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), Dropout(dropout))
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(hidden, width), nn.ReLU()) for _ in range(experts))
        self.towers = nn.ModuleDict({t: nn.Sequential(nn.Linear(width, width), nn.ReLU()) for t in tasks})
        self.gates = nn.ModuleDict({task: TopKGate(flat, experts, top_k) for task in tasks})
        self.expert_use: dict[str, Tensor] = {}

    def forward(self, tokens: InputTokens, tasks: Sequence[str]) -> dict[str, Tensor]:
        """As `TransformerFrame.forward`: task → what its tower gives, [S, D]."""
        flat_SF = self._flat(tokens)
        weights = {task: self.gates[task](flat_SF) for task in tasks}
        self.expert_use = {task: (w.detach() > 0).float().mean(dim=0) for task, w in weights.items()}
        x_SE = self.shared(flat_SF)
        mixed = {task: x_SE.new_zeros(len(x_SE), self.width) for task in tasks}
        for j, expert in enumerate(self.experts):
            rows = chosen(weights, j)
            if len(rows):
                add_expert(mixed, weights, j, rows, expert(x_SE[rows]))
        return {task: self.towers[task](x) for task, x in mixed.items()}

    def _flat(self, tokens: InputTokens) -> Tensor:
        own, mask, cut = tokens.own_SCD, tokens.own_mask_SC, tokens.image.stop
        user, user_mask, f = tokens.user_BUD, tokens.user_mask_BU, tokens.user_fields
        history_BD = masked_mean(user[:, f:], user_mask[:, f:])
        parts = [
            self._padded(user[:, :f], self.fields[0]).index_select(0, tokens.request_S),
            self._padded(own[:, cut:], self.fields[1]),
            history_BD.index_select(0, tokens.request_S),
            own[:, 0],
            masked_mean(own[:, tokens.text], mask[:, tokens.text]),
            masked_mean(own[:, tokens.image], mask[:, tokens.image]),
        ]
        return torch.cat(parts, dim=1)

    @staticmethod
    def _padded(fields_NFD: Tensor, wanted: int) -> Tensor:
        return functional.pad(fields_NFD, (0, 0, 0, wanted - fields_NFD.shape[1])).flatten(1)
