"""Interactions of fields: the second-order ones of factorisation machines, attended ones, and compressed ones.

Shape suffixes: S candidates, F fields, D width, P = F(F−1)/2 pairs, H feature maps of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.runtime.models.layers.mlp import Activation, activation
from trainer.runtime.models.recipe import RecipeError


def fm_pairs(x_SFD: Tensor) -> Tensor:
    """Sum of the inner products of all pairs of fields, in linear time (Rendle 2010, Lemma 3.1).

    Args:
        x_SFD: Vectors of the fields.

    Returns:
        [S].

    Example:
        >>> fm_pairs(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]))  # 11 + 17 + 39
        tensor([67.])
    """
    return 0.5 * (x_SFD.sum(1).square() - x_SFD.square().sum(1)).sum(-1)


def pair_indices(fields: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pairs i < j, [P] each, in the order (0, 1), (0, 2), …, (1, 2), …"""
    pairs = torch.triu_indices(fields, fields, 1)
    return pairs[0], pairs[1]


class FieldAwarePairs(nn.Module):
    """Sum over pairs of ⟨v_i for field j, v_j for field i⟩ (Juan 2016, Eq. 4).

    Each field comes with F − 1 vectors side by side, one for every other field in order.

    Args:
        fields: How many fields, F.
        width: Width of each vector, D.
    """

    def __init__(self, fields: int, width: int) -> None:
        super().__init__()
        self.fields, self.width = fields, width
        i_P, j_P = pair_indices(fields)
        # Row i of [F, F − 1] lacks its own field, so field j > i stands at j − 1 and field i < j at i.
        self.register_buffer("left_P", i_P * (fields - 1) + j_P - 1, persistent=False)
        self.register_buffer("right_P", j_P * (fields - 1) + i_P, persistent=False)
        self.left_P: Tensor
        self.right_P: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[S, F, (F − 1) · D] → [S]."""
        vectors = x.reshape(x.shape[0], self.fields * (self.fields - 1), self.width)
        return (vectors.index_select(1, self.left_P) * vectors.index_select(1, self.right_P)).sum((1, 2))


class AttentionalPairs(nn.Module):
    """Attention over the element-wise products of all pairs of fields (Xiao 2017, Eqs. 4-6).

    a_ij = softmax(hᵀ ReLU(W (v_i ⊙ v_j) + b)); the result is Σ a_ij (v_i ⊙ v_j).

    Args:
        fields: How many fields.
        width: Width of the embeddings.
        attention_width: Width of the attention network.
        dropout: Share dropped of the weights, and of the pooled vector.
    """

    def __init__(self, fields: int, width: int, attention_width: int, dropout: tuple[float, float]) -> None:
        super().__init__()
        i_P, j_P = pair_indices(fields)
        self.register_buffer("i_P", i_P, persistent=False)
        self.register_buffer("j_P", j_P, persistent=False)
        self.register_buffer("at_P", i_P * fields + j_P, persistent=False)
        self.i_P: Tensor
        self.j_P: Tensor
        self.at_P: Tensor
        self.hidden = nn.Linear(width, attention_width)
        self.score = nn.Linear(attention_width, 1, bias=False)
        self.drop_weights = nn.Dropout(dropout[0])
        self.drop_pooled = nn.Dropout(dropout[1])

    def forward(self, x_SFD: Tensor) -> Tensor:
        """[S, F, D] → [S, D]."""
        products_SPD = x_SFD.index_select(1, self.i_P) * x_SFD.index_select(1, self.j_P)
        scores_SP1 = self.score(torch.relu(self.hidden(products_SPD)))
        weights_SP = self.drop_weights(torch.softmax(scores_SP1, 1)).squeeze(2)
        # Σ_i v_i ⊙ Σ_j a_ij v_j: the products need not be read once more
        samples, fields, _ = x_SFD.shape
        weights_SFF = weights_SP.new_zeros(samples, fields * fields).index_copy(1, self.at_P, weights_SP)
        weights_SFF = weights_SFF.view(samples, fields, fields)
        pooled_SD: Tensor = self.drop_pooled((x_SFD * torch.bmm(weights_SFF, x_SFD)).sum(1))
        return pooled_SD


class CIN(nn.Module):
    """Compressed interaction network: x^k_h = φ(Σ_ij W^{k,h}_ij (x^{k-1}_i ⊙ x^0_j)), sum-pooled (Lian 2018, Eq. 6-8).

    All products of a layer go through one matrix product of S · D rows: the compression is the same for every
    coordinate.

    Args:
        fields: How many fields.
        sizes: Feature maps of each layer; even except for the last where `split_half`.
        activate: φ. The paper writes none (identity); its figures and the authors' code allow others.
        split_half: Whether only half of a layer's maps go on to the next layer, the other half to the output, as in
            the authors' code.
    """

    def __init__(
        self, fields: int, sizes: Sequence[int], *, activate: Activation = "none", split_half: bool = False
    ) -> None:
        super().__init__()
        if split_half and any(size % 2 for size in sizes[:-1]):
            raise RecipeError(
                "an odd layer cannot be halved",
                field="cin",
                value=tuple(sizes),
                remedy="use even sizes before the last",
            )
        self.sizes, self.split_half = tuple(sizes), split_half
        self.layers = nn.ModuleList()
        self.activations = nn.ModuleList()
        maps, self.width = fields, 0
        for k, size in enumerate(self.sizes):
            last = k == len(self.sizes) - 1
            self.layers.append(nn.Linear(maps * fields, size))
            self.activations.append(activation(activate, size))
            maps = size // 2 if split_half and not last else size
            self.width += size - maps if split_half and not last else size

    def forward(self, x_SFD: Tensor) -> Tensor:
        """[S, F, D] → [S, sum of the maps that reach the output]."""
        samples, _, width = x_SFD.shape
        base_SDF = x_SFD.transpose(1, 2).contiguous()
        state_SDH, pooled = base_SDF, []
        for k, layer in enumerate(self.layers):
            products = (state_SDH.unsqueeze(3) * base_SDF.unsqueeze(2)).reshape(samples, width, -1)
            out_SDH = self.activations[k](layer(products))
            if self.split_half and k < len(self.sizes) - 1:
                state_SDH, direct = out_SDH.split(self.sizes[k] // 2, 2)
            else:
                state_SDH, direct = out_SDH, out_SDH
            pooled.append(direct.sum(1))
        return torch.cat(pooled, 1)
