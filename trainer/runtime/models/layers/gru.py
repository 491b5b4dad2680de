"""Recurrent layers over histories with masked positions.

Shape suffixes: B requests, S candidates, N candidates whose history has begun, L positions, E width of an item, H width
of the state, P width of properties.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedGRU(nn.Module):
    """A GRU that skips masked positions, wherever they are.

    Unmasked positions are moved to the front in order, so that padding comes after all that matters and one call of the
    fused kernel does; the states are moved back after it.

    Args:
        inputs: Width E of the items.
        hidden: Width H of the state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)

    def forward(self, x_BLE: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Run over histories.

        Args:
            x_BLE: Items, oldest first.
            mask_BL: True where there is one.

        Returns:
            States after each item [B, L, H], zero where masked, and after the last [B, H], zero for an empty history.
        """
        width = self.gru.hidden_size
        order_BL = torch.argsort((~mask_BL).to(torch.int8), dim=1, stable=True)
        sorted_BLE = x_BLE.gather(1, order_BL.unsqueeze(2).expand(-1, -1, x_BLE.shape[2]))
        states_BLH, _ = self.gru(sorted_BLE)
        back_BLH = order_BL.unsqueeze(2).expand(-1, -1, width)
        out_BLH = torch.zeros_like(states_BLH).scatter(1, back_BLH, states_BLH) * mask_BL.unsqueeze(2)
        count_B = mask_BL.sum(1)
        last_B1H = (count_B - 1).clamp_min(0).reshape(-1, 1, 1).expand(-1, 1, width)
        last_BH = states_BLH.gather(1, last_B1H).squeeze(1) * (count_B > 0).unsqueeze(1)
        return out_BLH, last_BH


class AUGRU(nn.Module):
    """GRU with attentional update gate (Zhou 2019, Eqs. 15-16).

    u = σ(W_u x + U_u h + b_u), r = σ(W_r x + U_r h + b_r), h̃ = tanh(W_h x + r ⊙ (U_h h + b)),
    ũ = a · u, h ← (1 − ũ) ⊙ h + ũ ⊙ h̃.

    The inputs' share of the gates is computed once a request, the states once a candidate and only from its history's
    first item on: candidates are ordered by where theirs begins, and join as they come to it.

    Args:
        inputs: Width E of the items.
        hidden: Width H of the state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(inputs, 3 * hidden)
        self.of_state = nn.Linear(hidden, 3 * hidden)

    def forward(self, x_BLE: Tensor, weights_SL: Tensor, mask_BL: Tensor, request_S: Tensor) -> Tensor:
        """Run over each candidate's view of its request's history.

        Args:
            x_BLE: Items, oldest first.
            weights_SL: Attention a of each candidate to each item.
            mask_BL: True where there is an item; masked positions leave the state as it is.
            request_S: Request of each candidate.

        Returns:
            Last states [S, H].
        """
        length, hidden = x_BLE.shape[1], self.of_state.in_features
        seen_BL = mask_BL.cumsum(1) > 0
        first_S = (length - seen_BL.sum(1)).index_select(0, request_S)  # `length` for an empty history
        order_S = torch.argsort(first_S)
        joined = torch.bincount(first_S, minlength=length + 1).cumsum(0).tolist()  # how many have begun by each step
        request_S = request_S[order_S]
        effective_SL = weights_SL[order_S] * mask_BL.index_select(0, request_S)
        # unbind, not an index a step: the gradient of each would be as large as the whole
        steps = zip(joined, self.of_input(x_BLE).unbind(1), effective_SL.unsqueeze(2).unbind(1), strict=False)
        state_NH = x_BLE.new_zeros(0, hidden)
        for count, gates_BG, attention_S1 in steps:
            state_NH = functional.pad(state_NH, (0, 0, 0, count - len(state_NH)))
            in_r, in_u, in_h = gates_BG.index_select(0, request_S[:count]).chunk(3, 1)
            st_r, st_u, st_h = self.of_state(state_NH).chunk(3, 1)
            update_NH = torch.sigmoid(in_u + st_u) * attention_S1[:count]
            new_NH = torch.tanh(in_h + torch.sigmoid(in_r + st_r) * st_h)
            state_NH = state_NH + update_NH * (new_NH - state_NH)
        state_SH = functional.pad(state_NH, (0, 0, 0, len(request_S) - len(state_NH)))
        return state_SH[torch.argsort(order_S)]


class PropertyLSTM(nn.Module):
    """LSTM whose gates also read the behaviour's property, with peepholes (Ni 2018, section 3.3).

    i = σ(W_i [e; p; h] + w_i ⊙ c + b_i), f likewise, o likewise with the new c; c ← f ⊙ c + i ⊙ tanh(W_c [e; h] + b_c);
    h ← o ⊙ tanh(c). The property p opens and shuts the gates and is no part of the content.

    Args:
        inputs: Width E of the items.
        properties: Width P of the properties; may be 0.
        hidden: Width H of the state.
    """

    def __init__(self, inputs: int, properties: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.of_item = nn.Linear(inputs, 4 * hidden)
        self.of_property = nn.Linear(properties, 3 * hidden, bias=False) if properties else None
        self.of_state = nn.Linear(hidden, 4 * hidden, bias=False)
        self.peephole = nn.Parameter(torch.zeros(3, hidden))

    def forward(self, x_BLE: Tensor, properties_BLP: Tensor, mask_BL: Tensor) -> Tensor:
        """States after each item, [B, L, H]; a masked position keeps the state before it."""
        gates_BLG = self.of_item(x_BLE)
        if self.of_property is not None:
            gates_BLG = gates_BLG + functional.pad(self.of_property(properties_BLP), (0, self.hidden))
        state_BH = x_BLE.new_zeros(x_BLE.shape[0], self.hidden)
        cell_BH, states = state_BH, []
        # unbind, not an index a step: the gradient of each would be as large as the whole
        for gates_BG, here_B1 in zip(gates_BLG.unbind(1), mask_BL.unsqueeze(2).unbind(1), strict=True):
            i, f, o, content = (gates_BG + self.of_state(state_BH)).chunk(4, 1)
            enter = torch.sigmoid(i + self.peephole[0] * cell_BH)
            keep = torch.sigmoid(f + self.peephole[1] * cell_BH)
            new_cell = keep * cell_BH + enter * torch.tanh(content)
            new_state = torch.sigmoid(o + self.peephole[2] * new_cell) * torch.tanh(new_cell)
            cell_BH = torch.where(here_B1, new_cell, cell_BH)
            state_BH = torch.where(here_B1, new_state, state_BH)
            states.append(state_BH)
        return torch.stack(states, 1)
