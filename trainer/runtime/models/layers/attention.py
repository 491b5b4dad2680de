"""Attention of a candidate to a history, and of a learned query to a set.

Shape suffixes: B requests, S candidates, L positions, E width of an item, N rows, A width of the attention network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.runtime.models.layers.mlp import MLP, Activation, activation


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension of what is not masked; zeros where all is.

    Args:
        scores: [..., L].
        mask: [..., L], True where there is something.

    Example:
        >>> masked_softmax(torch.zeros(2, 3), torch.tensor([[True, True, False], [False, False, False]]))
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, -1) * mask


class ActivationUnit(nn.Module):
    """Score of each item of a history for a candidate: an MLP on [q, k, q − k, q ⊙ k] (Zhou 2018, Figure 2).

    The first layer is applied by parts: what depends on the candidate alone is computed once a candidate, what depends
    on the item alone once a request, and only the product once a pair. The weights are those of one linear layer on
    the concatenation.

    Args:
        width: Width E of candidate and items.
        hidden: Widths of the MLP's hidden layers.
        activate: Their activation; the authors' code has `sigmoid`, the paper PReLU or Dice.
    """

    def __init__(self, width: int, hidden: Sequence[int], activate: Activation = "sigmoid") -> None:
        super().__init__()
        self.first = nn.Linear(4 * width, hidden[0])
        self.activate = activation(activate, hidden[0])
        self.rest = MLP(hidden[0], hidden[1:], output=1, activate=activate)

    def forward(self, query_SE: Tensor, keys_BLE: Tensor, request_S: Tensor) -> Tensor:
        """Scores, [S, L]."""
        w_q, w_k, w_difference, w_product = self.first.weight.chunk(4, 1)
        of_query_SA = query_SE @ (w_q + w_difference).T + self.first.bias
        of_keys_BLA = keys_BLE @ (w_k - w_difference).T
        product_SLE = query_SE.unsqueeze(1) * keys_BLE.index_select(0, request_S)
        hidden_SLA = product_SLE @ w_product.T + of_keys_BLA.index_select(0, request_S) + of_query_SA.unsqueeze(1)
        scores_SL1: Tensor = self.rest(self.activate(hidden_SLA))
        return scores_SL1.squeeze(2)


class TargetAttention(nn.Module):
    """A history as one candidate sees it: its items weighted by an activation unit, summed.

    Args:
        width: Width E of candidate and items.
        hidden: Widths of the activation unit's hidden layers.
        activate: Their activation.
        softmax: Whether weights are normalised (the authors' code), or the raw scores (the paper, section 4.3).
        scale: Whether scores are divided by √E before the softmax (the authors' code).
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        activate: Activation = "sigmoid",
        *,
        softmax: bool = True,
        scale: bool = True,
    ) -> None:
        super().__init__()
        self.unit = ActivationUnit(width, hidden, activate)
        self.softmax, self.scale = softmax, width**-0.5 if scale else 1.0

    def weights(self, query_SE: Tensor, keys_BLE: Tensor, mask_BL: Tensor, request_S: Tensor) -> Tensor:
        """Weights of the items, [S, L]; zero where masked."""
        scores_SL = self.unit(query_SE, keys_BLE, request_S)
        mask_SL = mask_BL.index_select(0, request_S)
        return masked_softmax(scores_SL * self.scale, mask_SL) if self.softmax else scores_SL * mask_SL

    def forward(self, query_SE: Tensor, keys_BLE: Tensor, mask_BL: Tensor, request_S: Tensor) -> Tensor:
        """[S, E]; zero where the history is empty."""
        weights_SL = self.weights(query_SE, keys_BLE, mask_BL, request_S)
        return torch.einsum("sl,sle->se", weights_SL, keys_BLE.index_select(0, request_S))


class AdditiveAttention(nn.Module):
    """Σ a_i x_i with a = softmax(vᵀ tanh(W x_i + b)): attention of a learned query to a set (Wu 2019, Eqs. 2-3).

    Args:
        width: Width of the elements.
        hidden: Width A of the attention network.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.query = nn.Linear(hidden, 1, bias=False)

    def scores(self, x: Tensor) -> Tensor:
        """Scores of elements, before the softmax: [..., E] → [...]."""
        found: Tensor = self.query(torch.tanh(self.hidden(x))).squeeze(-1)
        return found

    def forward(self, x_NLE: Tensor, mask_NL: Tensor) -> Tensor:
        """[N, L, E] → [N, E]; zero where all is masked."""
        return torch.einsum("nl,nle->ne", masked_softmax(self.scores(x_NLE), mask_NL), x_NLE)


class QueryAttention(nn.Module):
    """Σ a_i x_i with a = softmax(vᵀ tanh(W_x x_i + W_q q + b)): additive attention of a given query (Bahdanau 2015).

    Args:
        query_width: Width of a query.
        width: Width of the elements.
        hidden: Width A of the attention network.
    """

    def __init__(self, query_width: int, width: int, hidden: int) -> None:
        super().__init__()
        self.of_query = nn.Linear(query_width, hidden, bias=False)
        self.of_element = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, query_SQ: Tensor, x_BLE: Tensor, mask_BL: Tensor, request_S: Tensor) -> Tensor:
        """Sets as the queries see them, [S, E]; zero where a set is empty.

        Args:
            query_SQ: Queries.
            x_BLE: Sets.
            mask_BL: True where a set has an element.
            request_S: Set of each query.
        """
        of_element_SLA = self.of_element(x_BLE).index_select(0, request_S)
        hidden_SLA = torch.tanh(of_element_SLA + self.of_query(query_SQ).unsqueeze(1))
        weights_SL = masked_softmax(self.score(hidden_SLA).squeeze(2), mask_BL.index_select(0, request_S))
        return torch.einsum("sl,sle->se", weights_SL, x_BLE.index_select(0, request_S))
