"""Multi-gate mixture-of-experts (Ma et al. 2018) on fields: the classical network for several tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.experts import DenseExperts
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, count_fields, fields_space
from trainer.runtime.models.layers.mlp import MLP
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class MMoERecipe(FieldsRecipe):
    """Recipe. All tasks of the data are learned; `task` is not used.

    Args:
        experts: How many experts.
        expert_hidden: Widths of each expert's layers, all with ReLU.
        tower_hidden: Widths of each task's tower.
        dropout: Share dropped after each hidden layer of the towers.
    """

    experts: Size = 8
    expert_hidden: tuple[Size, ...] = (128, 64)
    tower_hidden: tuple[Size, ...] = (32,)
    dropout: Fraction = 0.0


class MMoE(RankingModel):
    """y_k = h_k(Σ_i g_k(x)_i f_i(x)) with g_k(x) = softmax(W_k x)  (Eqs. 6-8)."""

    Recipe = MMoERecipe

    def __init__(self, schema: Schema, recipe: MMoERecipe) -> None:
        super().__init__(schema, recipe)
        inputs = count_fields(schema, recipe) * recipe.width
        self.fields = Fields(schema, recipe, "main", recipe.width)
        self.experts = DenseExperts(inputs, recipe.expert_hidden, recipe.experts)
        self.gates = nn.ModuleDict({task: nn.Linear(inputs, recipe.experts, bias=False) for task in schema.tasks})
        self.towers = nn.ModuleDict(
            {
                task: MLP(self.experts.width, recipe.tower_hidden, output=1, dropout=recipe.dropout)
                for task in schema.tasks
            }
        )

    @classmethod
    def spaces(cls, schema: Schema, recipe: MMoERecipe) -> tuple[Space, ...]:
        """`main`."""
        return (fields_space(schema, recipe, "main", recipe.width),)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of every task."""
        x_SC = self.fields(batch).flatten(1)
        experts_SMC = self.experts(x_SC)
        logits = {}
        for task, gate in self.gates.items():
            weights_SM = torch.softmax(gate(x_SC), 1)
            mixed_SC = torch.einsum("sm,smc->sc", weights_SM, experts_SMC)
            logits[task] = self.towers[task](mixed_SC).squeeze(1)
        return logits
