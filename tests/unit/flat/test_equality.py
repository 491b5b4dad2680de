"""The training loop against one written anew from FuxiCTR's description: the same logits after fifteen steps.

One table a field, the penalty λ/2 ‖W‖² of whole tables as a term of the loss, the norm of all gradients clipped, Adam,
the learning rate cut after each epoch without gain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from trainer.flat.dataset import SPLITS, read_dataset
from trainer.flat.encode import Arrays, EncodedSet, encode
from trainer.flat.fit import Fit, FlatModel, initialise
from trainer.flat.recipe import DataRecipe, TrainRecipe
from trainer.flat.tables import PlainTables
from trainer.runtime.models.registry import build

FIELDS, WIDTH, BATCH, EPOCHS = 4, 4, 256, 3
GAIN = 0.3  # more than there is after the first epoch: the third runs at a tenth of the rate
RATE, REDUCE, CLIP, L2_EMBEDDING, L2_LINEAR, L2_NET = 0.01, 0.1, 0.5, 0.05, 0.02, 1e-3


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for split, rows in zip(SPLITS, (1100, 300, 300), strict=True):
        columns = {f"c{i}": rng.integers(0, 5 + 4 * i, rows) for i in range(FIELDS - 1)} | {"x": rng.normal(size=rows)}
        logits = 2 * np.sin(columns["c1"] * columns["c2"]) + columns["x"]
        pl.DataFrame(columns | {"y": (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(int)}).write_parquet(
            folder / f"{split}.parquet"
        )
    (folder / "dataset.toml").write_text(
        'label = "y"\ncategorical = ["c0", "c1", "c2"]\nnumerical = ["x"]\n'
        'files = {train = "train.parquet", valid = "valid.parquet", test = "test.parquet"}\n',
        encoding="utf-8",
    )
    return encode(read_dataset(folder), DataRecipe(), folder / "cache")


class Embeddings(nn.Module):
    """A table for each category, a layer without bias for the number."""

    def __init__(self, table: Tensor, rows: list[int]) -> None:
        super().__init__()
        *categories, number = table.split(rows)
        self.categories = nn.ModuleList(nn.Embedding.from_pretrained(part.clone(), freeze=False) for part in categories)
        self.number = nn.Parameter(number[1:].clone())

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        looked_up = [table(ids[:, i]) for i, table in enumerate(self.categories)]
        return torch.stack([*looked_up, x * self.number], 1)


class Reference(nn.Module):
    """LR, FM or DeepFM."""

    def __init__(self, kind: str, ours: FlatModel, rows: list[int]) -> None:
        super().__init__()
        tables: Any = ours.tables.tables
        self.linear, self.bias = Embeddings(tables["linear"].weight.detach(), rows), nn.Parameter(torch.zeros(1))
        self.main = Embeddings(tables["main"].weight.detach(), rows) if kind != "lr" else None
        self.deep = None
        if kind == "deepfm":
            self.deep = nn.Sequential(nn.Linear(FIELDS * WIDTH, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
            self.deep.append(nn.Linear(8, 1))
            state = zip(self.deep.state_dict(), ours.ranker.deep.state_dict().values(), strict=True)  # type: ignore[union-attr]
            self.deep.load_state_dict(dict(state))

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        logits = self.linear(ids, x).sum((1, 2)) + self.bias
        if self.main is not None:
            vectors = self.main(ids, x)
            for i in range(FIELDS):
                for j in range(i):
                    logits = logits + (vectors[:, i] * vectors[:, j]).sum(1)
            if self.deep is not None:
                logits = logits + self.deep(vectors.flatten(1)).squeeze(1)
        return logits

    def penalty(self) -> Tensor:
        total = torch.zeros(())
        for name, weight in self.named_parameters():
            rate = {"linear": L2_LINEAR, "main": L2_EMBEDDING}.get(name.split(".")[0], L2_NET)
            total = total + rate / 2 * torch.norm(weight) ** 2
        return total


def inputs(arrays: Arrays, rows: Any) -> tuple[Tensor, Tensor, Tensor]:
    ids, x, labels = (torch.from_numpy(np.array(a[rows])) for a in (arrays.ids_NF, arrays.numbers_NK, arrays.labels_N))
    return ids.long(), x, labels


def train(model: Reference, encoded: EncodedSet, seed: int) -> list[float]:
    """Returns the learning rate that each epoch ran at."""
    arrays, valid = encoded.split("train"), inputs(encoded.split("valid"), slice(None))
    optimizer, order = torch.optim.Adam(model.parameters(), lr=RATE), np.random.default_rng(seed)
    best, rates = -1.0, []
    for _ in range(EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        shuffled = order.permutation(len(arrays))
        for start in range(0, len(shuffled), BATCH):
            ids, x, labels = inputs(arrays, shuffled[start : start + BATCH])
            optimizer.zero_grad()
            loss = functional.binary_cross_entropy(torch.sigmoid(model(ids, x)), labels) + model.penalty()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
        with torch.no_grad():
            auc = float(roc_auc_score(valid[2], model(*valid[:2])))
        if auc - best < GAIN:
            optimizer.param_groups[0]["lr"] *= REDUCE
        else:
            best = auc
    return rates


@pytest.mark.parametrize("kind", ["lr", "fm", "deepfm"])
def test_fifteen_steps_end_at_the_same_logits(encoded: EncodedSet, kind: str) -> None:
    torch.manual_seed(1)
    own: dict[str, Any] = {"width": WIDTH, "init_std": 0.3}
    ranker = build(kind, encoded.schema, own | ({"hidden": [8, 8], "dropout": 0.0} if kind == "deepfm" else {}))
    initialise(ranker)
    spaces = type(ranker).spaces(encoded.schema, ranker.recipe)
    model = FlatModel(PlainTables(encoded.schema, spaces, numbers="xavier_normal"), ranker)
    theirs = Reference(kind, model, [feature.rows for feature in encoded.schema.features])
    recipe = TrainRecipe(
        batch_size=BATCH,
        epochs=EPOCHS,
        patience=EPOCHS,
        min_delta=GAIN,
        learning_rate=RATE,
        reduce_factor=REDUCE,
        clip_norm=CLIP,
        l2_embedding=L2_EMBEDDING,
        l2_linear=L2_LINEAR,
        l2_net=L2_NET,
        seed=7,
    )
    fit = Fit(model, recipe, lambda _: None)
    # The last epoch, whichever is the best: what is put back there is another test's.
    kept: dict[str, Tensor] = {}
    score = fit.score

    def keep(arrays: Arrays) -> Any:
        kept.update({name: value.clone() for name, value in model.state_dict().items()})
        return score(arrays)

    fit.score = keep  # type: ignore[method-assign]
    epochs, _ = fit.run(encoded)
    model.load_state_dict(kept)

    rates = train(theirs, encoded, 7)
    np.testing.assert_allclose([epoch.learning_rate for epoch in epochs], rates)
    assert rates == pytest.approx([RATE, RATE, RATE * REDUCE])
    ids, x, _ = inputs(encoded.split("test"), slice(None))
    with torch.no_grad():
        found, expected = model(ids, x), theirs(ids, x)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
