"""APGRU: a GRU whose update gate reads the behaviour's property, and the candidate's attention to its states.

Shape suffixes: B requests, S candidates, L positions, E width of an item, P width of a property, H width of the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.runtime.models.layers.attention import masked_softmax
from trainer.runtime.models.layers.mlp import MLP


class PropertyGRU(nn.Module):
    """MARN, section 3.4.1: the update gate follows from property and item alone, not from the state.

    z_j = σ(W_z p_j + U_z i_j + b_z), r_j = σ(W_r i_j + U_r h_{j−1} + b_r), h̃_j = tanh(W i_j + U (r_j ⊙ h_{j−1}) + b),
    h_j = (1 − z_j) ⊙ h_{j−1} + z_j ⊙ h̃_j. A masked position keeps the state before it.

    Args:
        inputs: Width of an item.
        properties: Width of a property; 0 where behaviours have none.
        hidden: Width of the state.
    """

    def __init__(self, inputs: int, properties: int, hidden: int) -> None:
        super().__init__()
        self.update_of_property = nn.Linear(properties, hidden, bias=False) if properties else None
        self.of_item = nn.Linear(inputs, 3 * hidden)
        self.reset_of_state = nn.Linear(hidden, hidden, bias=False)
        self.new_of_state = nn.Linear(hidden, hidden, bias=False)

    def forward(self, items_BLE: Tensor, properties_BLP: Tensor, mask_BL: Tensor) -> Tensor:
        """States after each behaviour, [B, L, H]."""
        update_BLH, reset_BLH, new_BLH = self.of_item(items_BLE).chunk(3, dim=2)
        if self.update_of_property is not None:
            update_BLH = update_BLH + self.update_of_property(properties_BLP)
        # a masked position has an update gate of 0
        update_BLH = torch.sigmoid(update_BLH) * mask_BL[..., None]
        state_BH = items_BLE.new_zeros(len(items_BLE), self.reset_of_state.out_features)
        states = []
        for z, r, n in zip(update_BLH.unbind(1), reset_BLH.unbind(1), new_BLH.unbind(1), strict=True):
            reset_BH = torch.sigmoid(r + self.reset_of_state(state_BH))
            candidate_BH = torch.tanh(n + self.new_of_state(reset_BH * state_BH))
            state_BH = state_BH + z * (candidate_BH - state_BH)
            states.append(state_BH)
        return torch.stack(states, dim=1)


class StateAttention(nn.Module):
    """Weighted sum of the states, by an MLP on [state; candidate] and a softmax; zero for an empty history.

    Args:
        states: Width of a state.
        candidates: Width of a candidate.
        hidden: Widths of the MLP's hidden layers.
    """

    def __init__(self, states: int, candidates: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.score = MLP(states + candidates, hidden, output=1)

    def forward(self, states_BLH: Tensor, mask_BL: Tensor, candidate_SE: Tensor, request_S: Tensor) -> Tensor:
        """What each candidate sees, [S, H]."""
        states_SLH = states_BLH.index_select(0, request_S)
        candidate_SLE = candidate_SE[:, None].expand(-1, states_SLH.shape[1], -1)
        score_SL = self.score(torch.cat([states_SLH, candidate_SLE], dim=2))[..., 0]
        weight_SL = masked_softmax(score_SL, mask_BL.index_select(0, request_S))
        return (weight_SL[..., None] * states_SLH).sum(dim=1)
