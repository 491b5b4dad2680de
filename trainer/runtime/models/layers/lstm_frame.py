"""CameNN's MoSE frame (Table 4): shared bottom, experts and towers are LSTMs (Qin et al. 2020).

Shape suffixes: S sequences, L tokens, D width, M experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from trainer.runtime.models.layers.gates import TopKGate
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.mixture import add_expert, chosen
from trainer.runtime.models.layers.mlp import Dropout
from trainer.runtime.models.layers.tokens import InputTokens


class LstmFrame(nn.Module):
    """LSTMs over E_Input in its printed order, masked tokens left out; a head reads its tower's last state.

    Args:
        width: Width of tokens (D), and of every LSTM.
        dropout: Share dropped after the shared bottom.
        experts: Experts (M).
        top_k: Experts that a gate keeps.
        tasks: Tasks.
    """

    def __init__(self, width: int, dropout: float, experts: int, top_k: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.shared = _Lstm(width)
        self.dropout = Dropout(dropout)
        self.experts = nn.ModuleList(_Lstm(width) for _ in range(experts))
        self.towers = nn.ModuleDict({task: _Lstm(width) for task in tasks})
        self.gates = nn.ModuleDict({task: TopKGate(width, experts, top_k) for task in tasks})
        self.expert_use: dict[str, Tensor] = {}

    def forward(self, tokens: InputTokens, tasks: Sequence[str]) -> dict[str, Tensor]:
        """As `TransformerFrame.forward`: task → the last state of its tower, [S, D]."""
        x_SLD, mask_SL = tokens.in_order()
        weights = {task: self.gates[task](masked_mean(x_SLD, mask_SL)) for task in tasks}
        self.expert_use = {task: (w.detach() > 0).float().mean(dim=0) for task, w in weights.items()}
        if not len(x_SLD):
            return {task: x_SLD.new_zeros(0, x_SLD.shape[-1]) for task in tasks}
        length_S = mask_SL.sum(dim=1)
        # tokens to the front, in order, so that an LSTM never steps over a masked one
        order_SL = (~mask_SL).to(torch.int8).argsort(dim=1, stable=True)[:, : int(length_S.max())]
        x_SLD = x_SLD.gather(1, order_SL[..., None].expand(-1, -1, x_SLD.shape[-1]))
        x_SLD = self.dropout(self.shared(x_SLD, length_S)[0])
        mixed = {task: torch.zeros_like(x_SLD) for task in tasks}
        for j, expert in enumerate(self.experts):
            rows = chosen(weights, j)
            if len(rows):
                add_expert(mixed, weights, j, rows, expert(x_SLD[rows], length_S[rows])[0])
        return {task: self.towers[task](x, length_S)[1] for task, x in mixed.items()}


class _Lstm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x_SLD: Tensor, length_S: Tensor) -> tuple[Tensor, Tensor]:
        """States [S, L, D], zero behind the end, and the last of each, [S, D]."""
        packed: PackedSequence = pack_padded_sequence(x_SLD, length_S.cpu(), batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=x_SLD.shape[1])[0], last[0]
