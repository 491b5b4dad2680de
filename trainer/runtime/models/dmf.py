"""DMF, dense multimodal fusion (Hu et al. 2019), as the item encoder of a sequence model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.content import normal
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.modalities import ModalItems, ModalRanker, ModalRecipe
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DMFRecipe(ModalRecipe):
    """Recipe.

    Args:
        fusion: Widths of the layers, the same for each modality's own and for the shared ones.
    """

    fusion: tuple[Size, ...] = (128, 64)


class DenseFusion(nn.Module):
    """Shared layers between modality-specific networks, each reading the one below it (section 2.2).

    h_m^l = ReLU(W_m^l h_m^{l−1} + b), s^l = ReLU(Σ_m V_m^l h_m^l + U^l s^{l−1} + c).

    Args:
        inputs: Width of each modality.
        widths: Widths of the layers.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.own, self.to_shared, self.shared = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below, shared = list(inputs), 0
        for width in widths:
            self.own.append(nn.ModuleList(nn.Linear(size, width) for size in below))
            self.to_shared.append(nn.ModuleList(nn.Linear(width, width, bias=False) for _ in below))
            self.shared.append(nn.Linear(shared, width) if shared else Bias(width))
            below, shared = [width] * len(below), width

    def forward(self, modalities: list[Tensor], present: list[Tensor]) -> Tensor:
        """Fuse.

        Args:
            modalities: One [N, C] each.
            present: One [N] each, True where the item has that modality; the others send nothing.

        Returns:
            [N, last width].
        """
        below, state = modalities, modalities[0].new_zeros(modalities[0].shape[0], 0)
        for own, to_shared, shared in zip(self.own, self.to_shared, self.shared, strict=True):
            assert isinstance(own, nn.ModuleList) and isinstance(to_shared, nn.ModuleList)
            below = [torch.relu(layer(x)) for layer, x in zip(own, below, strict=True)]
            sent = [layer(x) * here.unsqueeze(1) for layer, x, here in zip(to_shared, below, present, strict=True)]
            state = torch.relu(shared(state) + torch.stack(sent).sum(0))
        return state


class Bias(nn.Module):
    """What the lowest shared layer has below it: nothing but a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """[width], whatever is below."""
        return self.bias


class DMF(ModalRanker):
    """Items fused layer by layer from IDs, mean text token and whole image; GRU and attention over histories; MLP."""

    Recipe = DMFRecipe

    def __init__(self, schema: Schema, recipe: DMFRecipe) -> None:
        super().__init__(schema, recipe)
        inputs = [self.ids_width]
        if self.content is not None:
            inputs += [self.content.text_width, self.content.image_width]
        self.fusion = DenseFusion(inputs, recipe.fusion)
        self.build_reader(recipe.fusion[-1])

    def encode(self, items: ModalItems, batch: Batch) -> Tensor:
        """[N, last width]."""
        modalities = [items.ids_NE]
        present = [items.ids_NE.new_ones(items.ids_NE.shape[0])]
        if items.rows_N is not None:
            assert batch.content is not None
            text_IC = normal(masked_mean(batch.content.text_ITD, batch.content.text_mask_IT))
            modalities += [text_IC[items.rows_N], normal(batch.content.image_global_ID)[items.rows_N]]
            present += [batch.content.text_mask_IT.any(1)[items.rows_N], batch.content.image_mask_I[items.rows_N]]
        out: Tensor = self.fusion(modalities, present)
        return out
