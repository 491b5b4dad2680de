"""Item representations from several modalities, as MARN learns them.

Shape suffixes: N items, M modalities, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.layers.reversal import reverse_gradient

Adversary = Literal["none", "single", "double"]


@dataclass(frozen=True)
class Representation:
    """Items, and what they were made of.

    Args:
        item_ND: Their representation.
        specific_NMD: Modality-specific features s^m.
        invariant_NMD: Modality-invariant features c^m, not weighted.
        attention_NMD: Vector attention a^m, zero where a modality is missing.
        weight_NM: Weight w^m of the invariant features, detached.
        mask_NM: True where an item has the modality.
        losses: `specific`, `first` and `second`: cross-entropies of D_s, D0 and D1, those that the adversary has.
    """

    item_ND: Tensor
    specific_NMD: Tensor
    invariant_NMD: Tensor
    attention_NMD: Tensor
    weight_NM: Tensor
    mask_NM: Tensor
    losses: dict[str, Tensor]


class MultimodalFusion(nn.Module):
    """Multimodal attention fusion (MARN, Eqs. 2-3) with no, one or two modality discriminators (Eqs. 4-9).

    s^m = tanh(S_m e^m), c^m = tanh(C e^m); a^m = tanh(W_mᵀ s^m + b_m), s = Σ_m a^m ⊙ s^m.
    `single` (the ablation ADV): D1 classifies c^m into its modality through the gradient reversal; c = max_m c^m.
    `double` (DDMA): D0 classifies c^m, its loss reaching D0 alone; w^m = 1 − D0_m(c^m), detached; D1 classifies w^m c^m
    through the reversal; c = max_m w^m c^m; D_s classifies s^m with D1's matrix, its loss stopping at e^m.
    The item is s, plus c where there is an adversary. A modality that an item lacks enters none of this.

    Args:
        modalities: Modalities (M).
        width: Width of e^m and of all else (D).
        adversary: Which discriminators there are.
    """

    def __init__(self, modalities: int, width: int, adversary: Adversary) -> None:
        super().__init__()
        self.adversary = adversary
        bound = width**-0.5
        self.specific = nn.Parameter(torch.empty(modalities, width, width).uniform_(-bound, bound))
        self.attention = nn.Parameter(torch.empty(modalities, width, width).uniform_(-bound, bound))
        self.attention_bias = nn.Parameter(torch.zeros(modalities, width))
        if adversary != "none":
            self.invariant = nn.Linear(width, width, bias=False)
            self.second = nn.Linear(width, modalities, bias=False)
        if adversary == "double":
            self.first = nn.Linear(width, modalities, bias=False)

    def forward(self, e_NMD: Tensor, mask_NM: Tensor, strength: float = 0.0, judge: bool = True) -> Representation:
        """Represent items.

        Args:
            e_NMD: Projected embeddings of the modalities.
            mask_NM: True where an item has the modality.
            strength: λ of the gradient reversal.
            judge: Whether the losses of the discriminators are wanted.
        """
        here_NM1 = mask_NM[..., None]
        specific_NMD = self._specific(e_NMD)
        attention_NMD = torch.tanh(torch.einsum("nmd,mdf->nmf", specific_NMD, self.attention) + self.attention_bias)
        attention_NMD = attention_NMD * here_NM1
        item_ND = (attention_NMD * specific_NMD).sum(dim=1)
        weight_NM = mask_NM.to(e_NMD.dtype)
        invariant_NMD, losses = torch.zeros_like(specific_NMD), {}
        if self.adversary != "none":
            invariant_NMD = torch.tanh(self.invariant(e_NMD))
            if self.adversary == "double":
                first_NMM = self.first(invariant_NMD.detach())
                own_NM = first_NMM.softmax(dim=2).diagonal(dim1=1, dim2=2)
                weight_NM = (weight_NM * (1.0 - own_NM)).detach()
                if judge:
                    losses["first"] = _modality_loss(first_NMM, mask_NM)
                    losses["specific"] = _modality_loss(self.second(self._specific(e_NMD.detach())), mask_NM)
            weighted_NMD = weight_NM[..., None] * invariant_NMD
            if judge:
                losses["second"] = _modality_loss(self.second(reverse_gradient(weighted_NMD, strength)), mask_NM)
            most_ND = weighted_NMD.masked_fill(~here_NM1, -torch.inf).amax(dim=1)
            item_ND = item_ND + most_ND.where(mask_NM.any(dim=1, keepdim=True), torch.zeros_like(most_ND))
        return Representation(item_ND, specific_NMD, invariant_NMD, attention_NMD, weight_NM, mask_NM, losses)

    def _specific(self, e_NMD: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("nmd,mdf->nmf", e_NMD, self.specific))


def _modality_loss(logits_NMM: Tensor, mask_NM: Tensor) -> Tensor:
    """Cross-entropy of telling the modality, mean over the modalities that items have; 0 where there is none."""
    n, m, _ = logits_NMM.shape
    target_NM = torch.arange(m, device=logits_NMM.device).expand(n, m)
    each_NM = functional.cross_entropy(logits_NMM.flatten(0, 1), target_NM.flatten(), reduction="none").view(n, m)
    return (each_NM * mask_NM).sum() / mask_NM.sum().clamp(min=1)
