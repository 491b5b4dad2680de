"""Deep interest evolution network (Zhou et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.attention import ActivationUnit, masked_softmax
from trainer.runtime.models.layers.gru import AUGRU, MaskedGRU
from trainer.runtime.models.layers.histories import SequenceRecipe
from trainer.runtime.models.layers.mlp import MLP, Activation, LastPReLU
from trainer.runtime.models.layers.sequence_ranker import SequenceRanker
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Size, Weight
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DIENRecipe(TowerRecipe, SequenceRecipe):
    """Recipe.

    Args:
        attention: `unit` scores with an activation unit (the authors' code), `bilinear` with hᵀ W e (Eq. 14).
        attention_hidden: Widths of the activation unit's hidden layers.
        attention_activate: Their activation.
        project_query: Whether the candidate passes a linear layer and PReLU before the unit (the authors' code).
        auxiliary: Score of a next item: `unit` is an MLP on [h, e] (the authors' code), `inner` is hᵀ e (the paper), of
            as many of h's columns as e has.
        auxiliary_hidden: Widths of that MLP.
        auxiliary_weight: α, the weight of the auxiliary loss (the authors' code: 1).
        hidden: Widths of the final MLP (the paper: 200 and 80).
        activate: Its activation.
    """

    attention: Literal["unit", "bilinear"] = "unit"
    attention_hidden: tuple[Size, ...] = (80, 40)
    attention_activate: Activation = "sigmoid"
    project_query: bool = True
    auxiliary: Literal["unit", "inner"] = "unit"
    auxiliary_hidden: tuple[Size, ...] = (100, 50)
    auxiliary_weight: Weight = 1.0
    hidden: tuple[Size, ...] = (200, 80)
    activate: Activation = "dice"


class InterestEvolution(nn.Module):
    """One history as a candidate's last interest state: GRU, attention, AUGRU (sections 4.2 and 4.3).

    Args:
        width: Width E of items, candidate and states.
        item_width: Width I of the item alone, without the properties of the behaviour: the first columns of E.
        recipe: The recipe.
    """

    def __init__(self, width: int, item_width: int, recipe: DIENRecipe) -> None:
        super().__init__()
        self.item_width = item_width
        self.extract = MaskedGRU(width, width)
        self.evolve = AUGRU(width, width)
        self.project = nn.Sequential(nn.Linear(width, width), LastPReLU(width)) if recipe.project_query else None
        self.unit: ActivationUnit | None = None
        self.bilinear: nn.Linear | None = None
        if recipe.attention == "unit":
            self.unit = ActivationUnit(width, recipe.attention_hidden, recipe.attention_activate)
        else:
            self.bilinear = nn.Linear(width, width, bias=False)
        self.next_item = (
            MLP(width + item_width, recipe.auxiliary_hidden, output=1, activate="sigmoid")
            if recipe.auxiliary == "unit"
            else None
        )

    def attend(self, query_SE: Tensor, states_BLE: Tensor, mask_BL: Tensor, request_S: Tensor) -> Tensor:
        """Attention of each candidate to the interest states, [S, L]."""
        query_SE = self.project(query_SE) if self.project is not None else query_SE
        if self.unit is not None:
            scores_SL = self.unit(query_SE, states_BLE, request_S)
        else:
            assert self.bilinear is not None
            projected_BLE = self.bilinear(states_BLE)
            scores_SL = torch.einsum("sle,se->sl", projected_BLE.index_select(0, request_S), query_SE)
        return masked_softmax(scores_SL, mask_BL.index_select(0, request_S))

    def forward(self, query_SE: Tensor, past_BLE: Tensor, mask_BL: Tensor, request_S: Tensor) -> tuple[Tensor, Tensor]:
        """Last interest of each candidate [S, E], and the interest states [B, L, E]."""
        states_BLE, _ = self.extract(past_BLE, mask_BL)
        weights_SL = self.attend(query_SE, states_BLE, mask_BL, request_S)
        return self.evolve(states_BLE, weights_SL, mask_BL, request_S), states_BLE

    def auxiliary_loss(
        self, states_BLE: Tensor, past_BLE: Tensor, mask_BL: Tensor, others_BLE: Tensor | None = None
    ) -> Tensor:
        """Whether a state knows the item that came next from one that did not (Eq. 7), as a mean over both.

        Only the items are compared: the properties of behaviours run on from one to the next (the gaps in time of a
        history fall), and would give the next one away to a state that knows no item.

        Args:
            states_BLE: Interest states.
            past_BLE: The histories.
            mask_BL: True where there is an item.
            others_BLE: At each position what did not come there. By default the next items of all the batch are
                shuffled, so that an item is drawn as often as it is bought; a pair of equal items is left out.
        """
        items_BLI = past_BLE[..., : self.item_width]
        follows_BL = mask_BL[:, :-1] & mask_BL[:, 1:]
        states_NE, next_NI = states_BLE[:, :-1][follows_BL], items_BLI[:, 1:][follows_BL]
        if others_BLE is None:
            other_NI = next_NI[torch.randperm(len(next_NI), device=next_NI.device)]
        else:
            other_NI = others_BLE[:, 1:, : self.item_width][follows_BL]
        differs_N = (next_NI != other_NI).any(1)
        states_NE, next_NI, other_NI = states_NE[differs_N], next_NI[differs_N], other_NI[differs_N]
        if not len(states_NE):
            return states_BLE.sum() * 0.0
        logits_N = torch.cat([self._next_logit(states_NE, next_NI), self._next_logit(states_NE, other_NI)])
        truth_N = torch.cat([torch.ones_like(logits_N[: len(states_NE)]), torch.zeros_like(logits_N[len(states_NE) :])])
        return functional.binary_cross_entropy_with_logits(logits_N, truth_N)

    def _next_logit(self, states_NE: Tensor, items_NI: Tensor) -> Tensor:
        if self.next_item is None:
            return (states_NE[:, : self.item_width] * items_NI).sum(1)
        out: Tensor = self.next_item(torch.cat([states_NE, items_NI], 1)).squeeze(1)
        return out


class DIEN(SequenceRanker):
    """ŷ = σ(MLP([fields; candidate; last interest state of each history])), and the auxiliary next-item loss."""

    Recipe = DIENRecipe

    def __init__(self, schema: Schema, recipe: DIENRecipe) -> None:
        super().__init__(schema, recipe)
        histories = self.histories.histories()
        self.evolution = nn.ModuleList(
            InterestEvolution(history.width, history.item_width, recipe) for history in histories
        )
        self.mlp = tower(self.other_width + sum(history.width for history in histories), recipe)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        return {self.task: self._run(batch, auxiliary=False)[0]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The task's cross-entropy and `next_item`, weighted and summed over the histories."""
        logits_S, auxiliary = self._run(batch, auxiliary=True)
        losses = {}
        if self.task in batch.labels_S:
            losses[self.task] = functional.binary_cross_entropy_with_logits(logits_S, batch.labels_S[self.task])
        if auxiliary:
            losses["next_item"] = self.recipe.auxiliary_weight * torch.stack(auxiliary).sum()
        return losses

    def _run(self, batch: Batch, *, auxiliary: bool) -> tuple[Tensor, list[Tensor]]:
        other_SC, pasts = self.gather(batch)
        parts, losses = [other_SC], []
        for past, evolution in zip(pasts, self.evolution, strict=True):
            assert isinstance(evolution, InterestEvolution)
            last_SE, states_BLE = evolution(past.candidate(), past.items_BLE, past.mask_BL, batch.request_S)
            parts.append(last_SE)
            if auxiliary:
                losses.append(evolution.auxiliary_loss(states_BLE, past.items_BLE, past.mask_BL))
        return self.score(parts), losses
