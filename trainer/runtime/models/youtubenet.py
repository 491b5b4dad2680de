"""YoutubeNet: the ranking network of Covington et al. 2016, section 4, with a mean of the watched items."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.sequence_ranker import Past, SequenceRanker
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class YoutubeNetRecipe(TowerRecipe, SequenceRecipe):
    """The tower is the best row of the paper's Table 1: ReLU in three layers."""

    hidden: tuple[Size, ...] = (1024, 512, 256)


class YoutubeNet(SequenceRanker):
    """ŷ = σ(MLP([fields; candidate; mean of each history]))."""

    Recipe = YoutubeNetRecipe

    def __init__(self, schema: Schema, recipe: YoutubeNetRecipe) -> None:
        super().__init__(schema, recipe, candidate=False)
        widths = [history.width for history in self.histories.histories()]
        self.mlp = tower(self.other_width + sum(widths), recipe)

    def interest(self, past: Past, other_SC: Tensor) -> Tensor:  # noqa: ARG002
        """The mean of its items, [S, E]."""
        return past.batch.to_candidates(masked_mean(past.items_BLE, past.mask_BL))
