"""The same weights give the same scores as deepctr-torch and torch-rechub, to 1e-5."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.dien import DIENRecipe, InterestEvolution
from trainer.runtime.models.layers.mlp import MLP, Dice
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.registry import build
from trainer.runtime.models.schema import ModelFeature, Schema, Sequence

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from deepctr_torch import models as reference
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
    from deepctr_torch.layers.activation import Dice as ReferenceDice
    from deepctr_torch.models.dien import InterestExtractor as ReferenceExtractor
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.ranking.bst import BST as ReferenceBST
    from torch_rechub.models.ranking.dien import AUGRU as ReferenceAUGRU
    from torch_rechub.models.ranking.dien import DIEN as ReferenceRechubDIEN

ROWS, WIDTH, N, LENGTH = 20, 8, 12, 5
FIELDS = ("user", "item", "category", "hour")


@dataclass
class Flat:
    """Random rows of four fields, for both sides."""

    columns: list[SparseFeat]
    schema: Schema
    ids: Tensor

    def batch(self, ref: Any) -> Batch:
        """The rows, embedded with the reference's tables."""
        embedded: dict[str, dict[str, Tensor]] = {"main": {}, "linear": {}}
        for i, name in enumerate(FIELDS):
            embedded["main"][name] = ref.embedding_dict[name](self.ids[:, i])
            if name in ref.linear_model.embedding_dict:
                embedded["linear"][name] = ref.linear_model.embedding_dict[name](self.ids[:, i])
        return Batch(embedded, torch.arange(N))


@pytest.fixture
def flat() -> Flat:
    torch.manual_seed(1)
    columns = [SparseFeat(name, ROWS, embedding_dim=WIDTH) for name in FIELDS]
    schema = Schema(tuple(ModelFeature(name, "item", name, ROWS) for name in FIELDS), tasks=("ctr", "cvr"))
    return Flat(columns, schema, torch.randint(0, ROWS, (N, len(FIELDS))))


def shake(module: nn.Module) -> None:
    """Weights large enough that a wrong one shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.4)


def set_linear(to: Any, weight: Tensor, bias: Tensor | None = None) -> None:
    with torch.no_grad():
        to.weight.copy_(weight.reshape(to.weight.shape))
        if to.bias is not None:
            to.bias.copy_(bias) if bias is not None else to.bias.zero_()


def set_mlp(mlp: MLP, linears: Any, last: Any = None) -> None:
    ours = [layer for layer in mlp.layers if isinstance(layer, nn.Linear)]
    for to, source in zip(ours, [*linears, *([last] if last is not None else [])], strict=True):
        set_linear(to, source.weight, source.bias)


def set_bias(model: Any, ref: Any) -> None:
    with torch.no_grad():
        model.linear.bias.copy_(ref.out.bias[0])


def same(model: RankingModel, batch: Batch, expected: Tensor, task: str = "ctr") -> None:
    model.eval()
    torch.testing.assert_close(torch.sigmoid(model(batch)[task]), expected.flatten(), atol=1e-5, rtol=0)
    assert expected.std() > 1e-3  # a constant would match anything


def test_fm_equals_afm_without_attention(flat: Flat) -> None:
    ref = reference.AFM(flat.columns, flat.columns, use_attention=False)
    shake(ref)
    model = build("fm", flat.schema, {"width": WIDTH})
    set_bias(model, ref)
    same(model, flat.batch(ref), ref(flat.ids.float()))


def test_afm(flat: Flat) -> None:
    ref = reference.AFM(flat.columns, flat.columns, attention_factor=6)
    shake(ref)
    ref.eval()
    model: Any = build("afm", flat.schema, {"width": WIDTH, "attention_width": 6})
    set_bias(model, ref)
    set_linear(model.pairs.hidden, ref.fm.attention_W.T, ref.fm.attention_b)
    set_linear(model.pairs.score, ref.fm.projection_h)
    set_linear(model.project, ref.fm.projection_p)
    same(model, flat.batch(ref), ref(flat.ids.float()))


def test_wide_deep(flat: Flat) -> None:
    ref = reference.WDL(flat.columns, flat.columns, dnn_hidden_units=(16, 8))
    shake(ref)
    model: Any = build("wide_deep", flat.schema, {"width": WIDTH, "hidden": [16, 8]})
    with torch.no_grad():
        model.wide.bias.copy_(ref.out.bias[0])
    set_mlp(model.deep, ref.dnn.linears, ref.dnn_linear)
    same(model, flat.batch(ref), ref(flat.ids.float()))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_deepfm(flat: Flat, batch_norm: bool) -> None:
    ref = reference.DeepFM(flat.columns, flat.columns, dnn_hidden_units=(16, 8), dnn_use_bn=batch_norm)
    shake(ref)
    ref.eval()
    model: Any = build("deepfm", flat.schema, {"width": WIDTH, "hidden": [16, 8], "batch_norm": batch_norm})
    set_bias(model, ref)
    set_mlp(model.deep, ref.dnn.linears, ref.dnn_linear)
    if batch_norm:
        ours = [layer for layer in model.deep.layers if isinstance(layer, nn.BatchNorm1d)]
        for to, source in zip(ours, ref.dnn.bn, strict=True):
            source.running_mean.normal_()
            source.running_var.uniform_(0.5, 2)
            to.load_state_dict(source.state_dict())
    same(model, flat.batch(ref), ref(flat.ids.float()))


@pytest.mark.parametrize("split_half", [False, True])
def test_xdeepfm(flat: Flat, split_half: bool) -> None:
    ref = reference.xDeepFM(
        flat.columns, flat.columns, dnn_hidden_units=(16,), cin_layer_size=(6, 4, 3), cin_split_half=split_half
    )
    shake(ref)
    recipe = {"width": WIDTH, "hidden": [16], "cin": [6, 4, 3], "cin_split_half": split_half, "cin_activate": "relu"}
    model: Any = build("xdeepfm", flat.schema, recipe)
    set_bias(model, ref)
    for to, source in zip(model.cin.layers, ref.cin.conv1ds, strict=True):
        set_linear(to, source.weight, source.bias)
    set_linear(model.cin_output, ref.cin_linear.weight)
    set_mlp(model.deep, ref.dnn.linears, ref.dnn_linear)
    same(model, flat.batch(ref), ref(flat.ids.float()))


def test_mmoe(flat: Flat) -> None:
    ref = reference.MMOE(
        flat.columns,
        num_experts=3,
        expert_dnn_hidden_units=(12, 8),
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=(6,),
        task_names=("ctr", "cvr"),
    )
    shake(ref)
    recipe = {"width": WIDTH, "experts": 3, "expert_hidden": [12, 8], "tower_hidden": [6]}
    model: Any = build("mmoe", flat.schema, recipe)
    with torch.no_grad():
        for m, expert in enumerate(ref.expert_dnn):
            for k, layer in enumerate(expert.linears):
                model.experts.weights[k][m].copy_(layer.weight.T)
                model.experts.biases[k][m, 0].copy_(layer.bias)
    for k, task in enumerate(("ctr", "cvr")):
        set_linear(model.gates[task], ref.gate_dnn_final_layer[k].weight)
        set_mlp(model.towers[task], ref.tower_dnn[k].linears, ref.tower_dnn_final_layer[k])
        with torch.no_grad():
            model.towers[task].layers[-1].bias.copy_(ref.out[k].bias)
    expected = ref(flat.ids.float())
    for k, task in enumerate(("ctr", "cvr")):
        same(model, flat.batch(ref), expected[:, k], task)


# Sequences. The reference pads behind, Freshrank in front.
SEQUENCE_FIELDS = ("user", "item", "category")
SEQUENCE_SCHEMA = Schema(
    (
        ModelFeature("user", "user", "user", ROWS),
        ModelFeature("item", "item", "item", ROWS),
        ModelFeature("category", "item", "c", ROWS),
    ),
    (
        Sequence(
            "buys",
            LENGTH,
            (ModelFeature("buys.item", "item", "item", ROWS), ModelFeature("buys.category", "item", "c", ROWS)),
        ),
    ),
    tasks=("ctr",),
)


@dataclass
class Past:
    """Random users with histories, for both sides."""

    columns: list[Any]
    x: Tensor
    ids: dict[str, Tensor]
    length_B: Tensor

    def batch(self, ref: Any) -> Batch:
        tables = ref.embedding_dict
        mask_BL = torch.arange(LENGTH) >= (LENGTH - self.length_B)[:, None]
        main = {name: tables[name](self.ids[name]) for name in SEQUENCE_FIELDS}
        for name in ("item", "category"):
            front_BL = torch.zeros(N, LENGTH, dtype=torch.long)
            front_BL[mask_BL] = self.ids["hist_" + name][torch.arange(LENGTH) < self.length_B[:, None]]
            main["buys." + name] = tables[name](front_BL)
        return Batch({"main": main}, torch.arange(N), {"buys": mask_BL}, request_fields=frozenset({"user"}))


@pytest.fixture
def past() -> Past:
    torch.manual_seed(2)
    columns: list[Any] = [SparseFeat(name, ROWS, embedding_dim=WIDTH) for name in SEQUENCE_FIELDS]
    for name in ("item", "category"):
        inner = SparseFeat("hist_" + name, ROWS, embedding_dim=WIDTH, embedding_name=name)
        columns.append(VarLenSparseFeat(inner, LENGTH, length_name="length"))
    length_B = torch.randint(1, LENGTH + 1, (N,))
    ids = {name: torch.randint(1, ROWS, (N,)) for name in SEQUENCE_FIELDS}
    here_BL = torch.arange(LENGTH) < length_B[:, None]
    ids |= {"hist_" + n: torch.randint(1, ROWS, (N, LENGTH)) * here_BL for n in ("item", "category")}
    parts = [ids[n][:, None] for n in SEQUENCE_FIELDS] + [ids["hist_item"], length_B[:, None], ids["hist_category"]]
    return Past(columns, torch.cat(parts, 1).float(), ids, length_B)


@pytest.mark.parametrize("softmax", [False, True])
def test_din(past: Past, softmax: bool) -> None:
    ref = reference.DIN(
        past.columns,
        ["item", "category"],
        dnn_hidden_units=(16, 8),
        att_hidden_size=(10, 6),
        att_activation="sigmoid",
        att_weight_normalization=softmax,
    )
    assert list(itertools.chain(*ref.feature_index.values()))[-2:] == [9, 14]
    shake(ref)
    recipe = {
        "width": WIDTH,
        "attention": [10, 6],
        "attention_softmax": softmax,
        "attention_scale": False,
        "hidden": [16, 8],
        "activate": "relu",
    }
    model: Any = build("din", SEQUENCE_SCHEMA, recipe)
    unit, source = model.attention[0].unit, ref.attention.local_att
    set_linear(unit.first, source.dnn.linears[0].weight, source.dnn.linears[0].bias)
    set_mlp(unit.rest, source.dnn.linears[1:], source.dense)
    set_mlp(model.mlp, ref.dnn.linears, ref.dnn_linear)
    with torch.no_grad():
        model.mlp.layers[-1].bias.copy_(ref.out.bias)
    same(model, past.batch(ref), ref(past.x))


def test_dien(past: Past) -> None:
    ref = reference.DIEN(
        past.columns,
        ["item", "category"],
        gru_type="AUGRU",
        dnn_hidden_units=(16, 8),
        att_hidden_units=(10, 6),
        att_activation="sigmoid",
        att_weight_normalization=True,
    )
    shake(ref)
    recipe = {
        "width": WIDTH,
        "attention_hidden": [10, 6],
        "project_query": False,
        "hidden": [16, 8],
        "activate": "relu",
    }
    model: Any = build("dien", SEQUENCE_SCHEMA, recipe)
    evolution = model.evolution[0]
    evolution.extract.gru.load_state_dict(ref.interest_extractor.gru.state_dict())
    cell = ref.interest_evolution.interest_evolution.rnn
    set_linear(evolution.evolve.of_input, cell.weight_ih, cell.bias_ih)
    set_linear(evolution.evolve.of_state, cell.weight_hh, cell.bias_hh)
    source = ref.interest_evolution.attention.local_att
    set_linear(evolution.unit.first, source.dnn.linears[0].weight, source.dnn.linears[0].bias)
    set_mlp(evolution.unit.rest, source.dnn.linears[1:], source.dense)
    set_mlp(model.mlp, ref.dnn.linears, ref.linear)
    interest = 2 * WIDTH  # the reference puts the interest before the fields
    weight = ref.dnn.linears[0].weight
    with torch.no_grad():
        model.mlp.layers[0].weight.copy_(torch.cat([weight[:, interest:], weight[:, :interest]], 1))
        model.mlp.layers[-1].bias.copy_(ref.out.bias)
    same(model, past.batch(ref), ref(past.x))


def test_augru_with_the_papers_attention() -> None:
    """Bilinear attention and AUGRU as in torch-rechub, which writes them as the paper does."""
    torch.manual_seed(3)
    ref = ReferenceAUGRU(WIDTH)
    shake(ref)
    ours = InterestEvolution(WIDTH, WIDTH, DIENRecipe(attention="bilinear", project_query=False))
    cell = ref.augru_cell
    set_linear(
        ours.evolve.of_input,
        torch.cat([cell.Wr, cell.Wu, cell.Wh], 1).T,
        torch.cat([cell.br, cell.bu, cell.bh], 1).flatten(),
    )
    set_linear(ours.evolve.of_state, torch.cat([cell.Ur, cell.Uu, cell.Uh], 1).T)
    assert ours.bilinear is not None
    set_linear(ours.bilinear, ref.Wa.T)
    states, query, mask = torch.randn(N, LENGTH, WIDTH), torch.randn(N, WIDTH), torch.ones(N, LENGTH, dtype=torch.bool)
    weights = ours.attend(query, states, mask, torch.arange(N))
    _, expected = ref(states, query, mask)
    torch.testing.assert_close(ours.evolve(states, weights, mask, torch.arange(N)), expected, atol=1e-5, rtol=0)


def test_diens_auxiliary_net(past: Past) -> None:
    """deepctr-torch's extractor with given negatives; it has no properties of behaviours."""
    torch.manual_seed(6)
    ref = ReferenceExtractor(WIDTH, use_neg=True)
    shake(ref)
    ours = InterestEvolution(WIDTH, WIDTH, DIENRecipe())
    ours.extract.gru.load_state_dict(ref.gru.state_dict())
    assert ours.next_item is not None
    set_mlp(ours.next_item, ref.auxiliary_net.linears)
    items, others = torch.randn(N, LENGTH, WIDTH), torch.randn(N, LENGTH, WIDTH)
    states, expected = ref(items, past.length_B, others)
    mask = torch.arange(LENGTH) < past.length_B[:, None]
    found, _ = ours.extract(items, mask)
    torch.testing.assert_close(found[mask], states[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.auxiliary_loss(found, items, mask, others), expected, atol=1e-5, rtol=0)


def test_diens_auxiliary_inner_product() -> None:
    """torch-rechub's, which adds the means over true and false next items: ours is the mean over both."""
    torch.manual_seed(7)
    ref = SimpleNamespace(BCELoss=nn.BCELoss())
    ours = InterestEvolution(WIDTH, WIDTH, DIENRecipe(auxiliary="inner"))
    states, items, others = torch.randn(3, N, LENGTH, WIDTH)
    mask = torch.rand(N, LENGTH) > 0.3
    expected = ReferenceRechubDIEN.auxiliary(ref, states, items, others, mask)
    torch.testing.assert_close(2 * ours.auxiliary_loss(states, items, mask, others), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("blocks", [1, 2])
def test_bst(blocks: int) -> None:
    """All of torch-rechub's, histories padded in front: it counts positions from the oldest place of the tensor."""
    torch.manual_seed(4)
    names = ("item", "category")
    users = [SparseFeature("user", ROWS, WIDTH)]
    targets = [SparseFeature(name, ROWS, WIDTH, padding_idx=0) for name in names]
    items = [SequenceFeature("buys." + n, ROWS, WIDTH, pooling="concat", shared_with=n, padding_idx=0) for n in names]
    top = {"dims": [16, 8], "activation": "relu"}
    ref = ReferenceBST(users, items, targets, top, nhead=4, num_layers=blocks, max_seq_len=LENGTH + 1)
    shake(ref)
    for layer in ref.mlp.mlp:
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    ref.eval()
    feed_forward = ref.transformer_layers.layers[0].linear1.out_features  # it leaves torch's own
    recipe = {"width": WIDTH, "heads": 4, "blocks": blocks, "feed_forward": feed_forward, "hidden": [16, 8]}
    model: Any = build("bst", SEQUENCE_SCHEMA, recipe | {"activate": "relu", "batch_norm": True})
    ours = model.transformers[0]
    for to, source in zip(ours.blocks, ref.transformer_layers.layers, strict=True):
        to.qkv.load_state_dict({"weight": source.self_attn.in_proj_weight, "bias": source.self_attn.in_proj_bias})
        to.out.load_state_dict(source.self_attn.out_proj.state_dict())
        to.wide.load_state_dict(source.linear1.state_dict())
        to.narrow.load_state_dict(source.linear2.state_dict())
        to.norm_attention.load_state_dict(source.norm1.state_dict())
        to.norm_feed_forward.load_state_dict(source.norm2.state_dict())
    set_mlp(model.mlp, [layer for layer in ref.mlp.mlp if isinstance(layer, nn.Linear)])
    norms = [[x for x in layers if isinstance(x, nn.BatchNorm1d)] for layers in (model.mlp.layers, ref.mlp.mlp)]
    for to, source in zip(*norms, strict=True):
        to.load_state_dict(source.state_dict())
    with torch.no_grad():
        ours.positions.copy_(ref.pos_embedding.weight)
        # the reference has the interest first, then the target, then the user
        weight = ref.mlp.mlp[0].weight.split([2 * WIDTH, 2 * WIDTH, WIDTH], 1)
        model.mlp.layers[0].weight.copy_(torch.cat([weight[2], weight[1], weight[0]], 1))
    mask = torch.arange(LENGTH) >= torch.randint(0, LENGTH + 1, (N, 1))
    ids = {name: torch.randint(1, ROWS, (N,)) for name in SEQUENCE_FIELDS}
    ids |= {"buys." + name: torch.randint(1, ROWS, (N, LENGTH)) * mask for name in names}
    tables = ref.embedding.embed_dict
    main = {name: tables[name.removeprefix("buys.")](x) for name, x in ids.items()}
    batch = Batch({"main": main}, torch.arange(N), {"buys": mask}, request_fields=frozenset({"user"}))
    same(model, batch, ref(ids))


@pytest.mark.parametrize("training", [False, True])
def test_dice(training: bool) -> None:
    torch.manual_seed(5)
    ref, ours = ReferenceDice(6), Dice(6)
    with torch.no_grad():
        ref.alpha.normal_()
        ours.alpha.copy_(ref.alpha)
    ref.train(training), ours.train(training)
    x = torch.randn(9, 6) * 3 + 1
    torch.testing.assert_close(ours(x), ref(x), atol=1e-5, rtol=1e-5)
