"""Fit a model on an encoded set: epochs, penalties, clipping, plateaus, the best epoch back.

Shape suffixes: N rows of a batch, F fields with indices, K embedded numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.errors import UsageError
from trainer.flat.encode import Arrays, EncodedSet
from trainer.flat.recipe import TrainRecipe
from trainer.flat.tables import PlainTables
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.ranker import RankingModel
from trainer.schedule import EarlyStopping, change_rates, progress

TASK = "ctr"


@dataclass(frozen=True)
class Score:
    """AUC (None where there is one class only) and log loss of a split; None and NaN where the model diverged."""

    auc: float | None
    logloss: float


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean training loss without penalties, scores on valid, learning rate, seconds."""

    epoch: int
    loss: float
    auc: float | None
    logloss: float
    learning_rate: float
    seconds: float


class FlatModel(nn.Module):
    """A ranker with its plain tables; a row is a request with one candidate.

    Args:
        tables: The tables.
        ranker: The model.
    """

    def __init__(self, tables: PlainTables, ranker: RankingModel) -> None:
        super().__init__()
        self.tables, self.ranker = tables, ranker

    def batch(self, ids_NF: Tensor, numbers_NK: Tensor, labels_N: Tensor | None = None, progress: float = 0.0) -> Batch:
        """The rows as the ranker takes them."""
        return Batch(
            self.tables(ids_NF, numbers_NK),
            torch.arange(ids_NF.shape[0], device=ids_NF.device),
            labels_S={} if labels_N is None else {TASK: labels_N},
            progress=progress,
        )

    def forward(self, ids_NF: Tensor, numbers_NK: Tensor) -> Tensor:
        """Logits, [N]."""
        logits_N: Tensor = self.ranker(self.batch(ids_NF, numbers_NK))[TASK]
        return logits_N


def initialise(ranker: RankingModel, *, products: bool = True) -> None:
    """Xavier's normal values for every matrix, zero for its bias, as benchmark code does.

    Args:
        ranker: The model.
        products: Whether layers that compress products of fields get them too, or keep their own.
    """
    kept = set() if products else {layer for module in ranker.product_layers() for layer in module.modules()}
    for module in ranker.modules():
        if isinstance(module, nn.Linear | nn.Conv1d) and module not in kept:
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Fit:
    """A training under way.

    Args:
        model: Tables and ranker.
        recipe: How.
        say: Takes a line for each epoch.
    """

    def __init__(self, model: FlatModel, recipe: TrainRecipe, say: Callable[[str], None]) -> None:
        self.model, self.recipe, self.say = model.to(recipe.device), recipe, say
        self.tables = list(model.tables.parameters())
        self.linear = {id(p) for name, p in model.tables.tables.named_parameters() if name.split(".")[0] == "linear"}
        self.net = list(model.ranker.parameters())
        self.optimizers = _optimizers(self.tables, self.net, recipe)

    def run(self, encoded: EncodedSet) -> tuple[list[Epoch], int]:
        """Train until the watched metric of the valid split stops to improve; the best epoch's weights are put back.

        Returns:
            All epochs, and the number of the best one.

        Raises:
            UsageError: If the first epoch diverges, or no batch is full where the rest is dropped.
        """
        train, valid = encoded.split("train"), encoded.split("valid")
        if self.recipe.drop_last and len(train) < self.recipe.batch_size:
            raise UsageError(
                "no batch is full and the rest is dropped",
                field="train.batch_size",
                value=self.recipe.batch_size,
                remedy=f"use {len(train)} or less, or drop_last = false",
            )
        order = np.random.default_rng(self.recipe.seed)
        epochs: list[Epoch] = []
        stopping = EarlyStopping(self.recipe.patience, "max", self.recipe.min_delta, ties=True)
        weights: dict[str, Tensor] = {}
        for number in range(1, self.recipe.epochs + 1):
            began = time.perf_counter()
            loss = self._epoch(train, order.permutation(len(train)), number)
            score = self.score(valid)
            epochs.append(
                Epoch(number, loss, score.auc, score.logloss, self.learning_rate, time.perf_counter() - began)
            )
            self.say(_line(epochs[-1]))
            watched = _watched(score, self.recipe.watch)
            if number == 1 and not math.isfinite(watched):
                raise UsageError(
                    "the first epoch diverges",
                    field="train.learning_rate",
                    value=self.recipe.learning_rate,
                    remedy="use a smaller one, or scale the numbers",
                )
            # Of a later one that diverges NaN is watched, which is no gain: the best epoch so far stays.
            if stopping.gains(watched, number):
                weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                continue
            self._reduce()
            if stopping.over:
                break
        self.model.load_state_dict(weights)
        return epochs, stopping.best_at

    @torch.no_grad()
    def score(self, arrays: Arrays) -> Score:
        """AUC and log loss of a split."""
        from sklearn.metrics import roc_auc_score

        self.model.eval()
        rows = np.arange(len(arrays))
        size = max(self.recipe.batch_size, 8192)
        logits = [self.model(ids, numbers).cpu() for ids, numbers, _ in self._batches(arrays, rows, size)]
        logits_N, labels_N = torch.cat(logits).double(), torch.from_numpy(np.array(arrays.labels_N)).double()
        if not bool(logits_N.isfinite().all()):
            return Score(None, math.nan)
        loss = float(nn.functional.binary_cross_entropy_with_logits(logits_N, labels_N))
        both = 0 < int(labels_N.sum()) < len(labels_N)
        return Score(float(roc_auc_score(labels_N.numpy(), logits_N.numpy())) if both else None, loss)

    @property
    def learning_rate(self) -> float:
        """The present one."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    def _epoch(self, train: Arrays, order: NDArray[np.int64], number: int) -> float:
        self.model.train()
        total, rows = 0.0, 0
        for ids_NF, numbers_NK, labels_N in self._batches(train, order, self.recipe.batch_size):
            if self.recipe.drop_last and len(labels_N) < self.recipe.batch_size:
                continue
            done = progress(number - 1, rows / len(train), self.recipe.epochs)
            batch = self.model.batch(ids_NF, numbers_NK, labels_N, done)
            loss = torch.stack(list(self.model.ranker.losses(batch).values())).sum()
            if self.recipe.loss == "sum":
                loss = loss * len(labels_N)
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._penalise(ids_NF, numbers_NK)
            if self.recipe.clip_norm:
                _clip([*self.tables, *self.net], self.recipe.clip_norm)
            for optimizer in self.optimizers:
                optimizer.step()
            share = len(labels_N) if self.recipe.loss == "mean" else 1
            total, rows = total + loss.item() * share, rows + len(labels_N)
        return total / max(rows, 1)

    @torch.no_grad()
    def _penalise(self, ids_NF: Tensor, numbers_NK: Tensor) -> None:
        """Add the penalties' gradients, λ w and λ sign(w): the same as their terms in the loss, without their graph."""
        recipe = self.recipe
        first_order = recipe.l2_embedding if recipe.l2_linear is None else recipe.l2_linear
        if recipe.l2_embedding or recipe.l1_embedding or first_order:
            touched = torch.unique(self.model.tables.rows(ids_NF, numbers_NK)) if recipe.l2_rows == "touched" else None
            for weight in self.tables:
                l2 = first_order if id(weight) in self.linear else recipe.l2_embedding
                _add_penalty(weight, l2, recipe.l1_embedding, touched)
        if recipe.l2_net or recipe.l1_net:
            for weight in self.net:
                if weight.dim() > 1 or recipe.l2_net_of == "all":
                    _add_penalty(weight, recipe.l2_net, recipe.l1_net, None)

    def _reduce(self) -> None:
        recipe = self.recipe
        change_rates(self.optimizers, lambda rate: max(rate * recipe.reduce_factor, recipe.min_learning_rate))

    def _batches(self, arrays: Arrays, rows: NDArray[np.int64], size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        tables = self.model.tables
        indexed, embedded = tables.indexed, len(tables.names) - tables.indexed
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield (
                torch.from_numpy(arrays.ids_NF[some][:, :indexed]).to(self.recipe.device),
                torch.from_numpy(arrays.numbers_NK[some][:, :embedded]).to(self.recipe.device),
                torch.from_numpy(arrays.labels_N[some]).to(self.recipe.device),
            )


def _add_penalty(weight: nn.Parameter, l2: float, l1: float, rows: Tensor | None) -> None:
    if weight.grad is None:
        return
    if rows is None:
        weight.grad.add_(weight, alpha=l2)
        if l1:
            weight.grad.add_(weight.sign(), alpha=l1)
        return
    values = l2 * weight[rows] + (l1 * weight[rows].sign() if l1 else 0.0)
    if weight.grad.is_sparse:
        weight.grad = weight.grad + torch.sparse_coo_tensor(
            rows.unsqueeze(0), values, weight.shape, check_invariants=False
        )
    else:
        weight.grad.index_add_(0, rows, values)


def _clip(parameters: list[nn.Parameter], norm: float) -> None:
    """Scale all gradients so that their common norm is at most `norm`, sparse ones included."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad._values())
        else:
            gradients.append(parameter.grad)
    if not gradients:
        return
    total = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    scale = torch.clamp(norm / (total + 1e-6), max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)


def _optimizers(
    tables: list[nn.Parameter], net: list[nn.Parameter], recipe: TrainRecipe
) -> list[torch.optim.Optimizer]:
    rate, betas, eps = recipe.learning_rate, (recipe.beta1, recipe.beta2), recipe.epsilon
    everything = [*tables, *net]
    match recipe.optimizer:
        case "adam":
            return [torch.optim.Adam(everything, lr=rate, betas=betas, eps=eps, fused=recipe.device == "cpu")]
        case "lazy_adam":
            made: list[torch.optim.Optimizer] = [torch.optim.SparseAdam(tables, lr=rate, betas=betas, eps=eps)]
            return [*made, torch.optim.Adam(net, lr=rate, betas=betas, eps=eps)] if net else made
        case "adagrad":
            return [torch.optim.Adagrad(everything, lr=rate, eps=eps)]
        case "sgd":
            return [torch.optim.SGD(everything, lr=rate)]


def _watched(score: Score, watch: str) -> float:
    if not math.isfinite(score.logloss):
        return math.nan
    auc = score.auc if score.auc is not None else 0.5
    return {"auc": auc, "logloss": -score.logloss, "auc-logloss": auc - score.logloss}[watch]


def _line(epoch: Epoch) -> str:
    auc = "-" if epoch.auc is None else f"{epoch.auc:.6f}"
    return (
        f"epoch {epoch.epoch}: train loss {epoch.loss:.6f}, valid auc {auc}, log loss {epoch.logloss:.6f}, "
        f"learning rate {epoch.learning_rate:g}, {epoch.seconds:.1f} s"
    )
