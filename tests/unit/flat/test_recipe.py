"""Recipes that cannot work end in one line that names the field, before anything is read or trained."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from features.errors import UsageError
from trainer.flat.recipe import read_recipe
from trainer.runtime.models.layers.interaction import CIN
from trainer.runtime.models.recipe import RecipeError, plain
from trainer.runtime.models.registry import REGISTRY, build, parse_recipe
from trainer.runtime.models.schema import ModelFeature, Schema


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[train]\nlearning_rate = -1.0", "train.learning_rate"),
        ("[train]\nlearning_rate = nan", "train.learning_rate"),
        ("[train]\nlearning_rate = 0", "train.learning_rate"),
        ("[train]\nlearning_rate = inf", "train.learning_rate"),
        ("[train]\nlearning_rate = 1e300", "train.learning_rate"),
        ("[train]\nembedding_dropout = 1.5", "train.embedding_dropout"),
        ("[train]\nembedding_dropout = 1.0", "train.embedding_dropout"),
        ("[train]\nl2_embedding = -1", "train.l2_embedding"),
        ("[train]\nl2_linear = -1", "train.l2_linear"),
        ("[train]\nl2_net = nan", "train.l2_net"),
        ("[train]\nreduce_factor = -1", "train.reduce_factor"),
        ("[train]\nreduce_factor = 1.1", "train.reduce_factor"),
        ("[train]\nbeta2 = 1.0", "train.beta2"),
        ("[train]\nepsilon = 0", "train.epsilon"),
        ("[train]\nclip_norm = -1", "train.clip_norm"),
        ("[train]\nseed = -1", "train.seed"),
        ("[train]\nseed = true", "train.seed"),
        ("[train]\nthreads = -1", "train.threads"),
        ("[data]\nmissing = 'mean'", "data.missing"),
        ("[data]\nbuckets = 1", "data.buckets"),
        ("[model]\nwidth = 0", "model.width"),
        ("[model]\nwidth = -2", "model.width"),
        ("[model]\nwidth = 'wide'", "model.width"),
        ("[model]\ncin = []", "model.cin"),
        ("[model]\ncin = [4, 0]", "model.cin[1]"),
        ("[model]\nhidden = [0]", "model.hidden[0]"),
        ("[model]\ndropout = 1.5", "model.dropout"),
        ("[model]\ndropout = -0.1", "model.dropout"),
        ("[model]\ninit_std = -1", "model.init_std"),
        ("[model]\ninit_std = nan", "model.init_std"),
        ("[model]\nunheard_of = 1", "model.unheard_of"),
        ("[model.optimizer]\nlr = 0.1", "model.optimizer"),
        ("model = 3", "model"),
        ("train = 3", "train"),
        ("[tarin]\nseed = 3", "tarin"),
        ("[train]\noptimizer = 'lazy_adam'\nl2_embedding = 1e-5", "train.l2_rows"),
    ],
)
def test_impossible_values_are_named(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_recipe(path, "xdeepfm", seed=1)
    assert caught.value.field == field and caught.value.remedy


def test_dropouts_in_pairs_are_checked_too() -> None:
    with pytest.raises(RecipeError):
        parse_recipe("afm", {"dropout": [0.1, 1.0]})


def test_defaults_and_the_ends_of_ranges_are_right(tmp_path: Path) -> None:
    for model in REGISTRY:
        read_recipe(None, model)
    path = tmp_path / "recipe.toml"
    path.write_text(
        "[train]\nreduce_factor = 1\nclip_norm = 0\nmin_delta = -1.0\n[model]\nhidden = []\n", encoding="utf-8"
    )
    flat, typed = read_recipe(path, "xdeepfm")
    assert flat.train.reduce_factor == 1.0 and plain(typed)["hidden"] == []


def test_a_seed_of_the_command_line_is_checked_like_the_files() -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(None, "lr", seed=-1)
    assert caught.value.field == "train.seed"
    assert read_recipe(None, "lr", seed=3)[0].train.seed == 3


def test_an_unknown_model_is_named_as_such() -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(None, "gbdt")
    assert caught.value.field == "model"


def test_a_recipe_comes_through_a_pipe(tmp_path: Path) -> None:
    """As from /dev/stdin, which is no regular file."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("[train]\nepochs = 7\n",))
    writer.start()
    assert read_recipe(path, "lr")[0].train.epochs == 7
    writer.join()
    with pytest.raises(UsageError):
        read_recipe(tmp_path, "lr")  # a folder


def test_the_cin_keeps_its_own_initial_weights_where_asked() -> None:
    from trainer.flat.fit import initialise

    schema = Schema(tuple(ModelFeature(name, "item", name, 5) for name in "abc"), tasks=("ctr",))
    for cin in (False, True):
        torch.manual_seed(0)
        ranker = build("xdeepfm", schema, {"cin": [4], "hidden": [4]})
        before = {name: value.clone() for name, value in ranker.state_dict().items()}
        initialise(ranker, products=cin)
        layers = next(name for name, module in ranker.named_modules() if isinstance(module, CIN))
        same = {name: torch.equal(value, before[name]) for name, value in ranker.state_dict().items()}
        assert same[f"{layers}.layers.0.weight"] == same[f"{layers}.layers.0.bias"] == (not cin)
        assert not same["deep.layers.0.weight"] and not same["cin_output.weight"]
