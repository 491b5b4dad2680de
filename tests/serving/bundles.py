"""Small real bundles: a model with random weights over made-up items, with probes that its own scorer scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from features.content.store import TokenWriter, Widths
from serving.inputs import to_array
from trainer.bundle import _copy_code, _sums
from trainer.runtime.encoding import Encoding, Field, Items
from trainer.runtime.lookup import Lookup
from trainer.runtime.models.registry import build, model_class, parse_recipe
from trainer.runtime.models.schema import ContentWidths
from trainer.runtime.scorer import FORMAT, Scorer, inputs_of, save_items
from trainer.tokens import TokenStore, copy_tokens

ODD_ITEMS = (
    "蘋果", "苹果🍎", "a,b", "a/b/../c", 'the "big" one', "it's", " two  blanks ", "größer", "gro\u0308ßer", "長" * 256,
)  # fmt: skip
ITEMS = (*(f"item{n}" for n in range(11)), *ODD_ITEMS, *(f"item{n}" for n in range(21, 24)))
ODD_USER = '用户, "ü"/🧑 1'
USERS = ("ann", "bob", ODD_USER)
ODD_CATEGORY, ODD_BRAND = '牛乳/🥛, "fresh"', "Müller & Söhne, 1/2 🐄 'x'"
CATEGORIES = ("fruit", ODD_CATEGORY, None)  # of the items in turn
WIDTHS = Widths(text_tokens=3, text_width=6, image_width=5)
RECIPE = {"width": 8, "heads": 2, "feed_forward": 8, "experts": 2, "top_k": 1, "history_items": 3, "init_std": 0.5}

RECIPES: dict[str, dict[str, Any]] = {
    "camenn": RECIPE,
    "marn": {"sequence": "buys", "history_items": 3, "hidden": [8], "title_filters": 4},
    "din": {"sequences": ["buys"], "hidden": [8]},
    "fm": {},
}


def sha(kind: str, item: str) -> str:
    """A made-up content hash."""
    return hashlib.sha256(f"{kind}{item}".encode()).hexdigest()


def write_tokens(folder: Path, items: tuple[str, ...], seed: int = 0) -> TokenStore:
    """Add tokens of items to a token store; an item's tokens depend on its name alone."""
    writer = TokenWriter(folder, WIDTHS, {})
    new = [item for item in items if sha("text", item) not in writer]
    if new:
        draws = [np.random.default_rng([seed, *item.encode()]) for item in new]
        w = WIDTHS
        text = np.stack([d.normal(size=(w.text_tokens, w.text_width)) for d in draws]).astype(np.float16)
        image = np.stack([d.normal(size=(w.patches, w.image_width)) for d in draws]).astype(np.float16)
        length = np.full(len(new), w.text_tokens, np.uint8)
        writer.add_texts([sha("text", item) for item in new], text, length)
        writer.add_images([sha("image", item) for item in new], image, image.mean(axis=1))
    writer.commit()
    return TokenStore(folder)


def encoding(user_field: str = "u_zone") -> Encoding:
    """Features of every kind: of user, context, candidate, cross and history."""
    fields = [
        Field("user_id", "user_id", "user_id", "request", "category", "user"),
        Field(user_field, user_field, "zone", "request", "category", "user"),
        Field("ctx_zone", "ctx_zone", "zone", "request", "category", "context"),
        Field("item_id", "cand_item", "item_id", "candidate", "category", "item"),
        Field("category_id", "i_category", "category_id", "candidate", "category", "item"),
        Field("i_price", "i_price", "i_price", "candidate", "number", "item", 4),
        Field("x_item_buys", "x_item_buys", "x_item_buys", "candidate", "number", "cross", 2),
        Field("buys.item_id", "buy_item", "item_id", "buys", "category", "item"),
        Field("buys.category_id", "category", "category_id", "buys", "category", "item", source="item_table"),
        Field("buys.gap", "buy_time", "history_gap", "buys", "gap", "item", 4),
    ]
    vocabularies = {
        "user_id": {name: at for at, name in enumerate(USERS, start=1)},
        "zone": {"north": 1, "south": 2},
        "item_id": {name: at for at, name in enumerate(ITEMS, start=1)},
        "category_id": {"fruit": 1, ODD_CATEGORY: 2},
    }
    edges = {
        "i_price": np.array([100, 200, 400], np.float32),
        "x_item_buys": np.array([1], np.float32),
        "history_gap": np.array([3600, 86400, 864000], np.float32),
    }
    content = ContentWidths(WIDTHS.text_tokens, WIDTHS.text_width, WIDTHS.patches, WIDTHS.image_width)
    return Encoding(fields, {"buys": 3}, vocabularies, edges, content, ("cvr",))


def raw_request(seed: int, candidates: int = 5) -> dict[str, Any]:
    """Raw columns of a request, as a row of the requests table."""
    draw = np.random.default_rng(seed)
    items = [str(item) for item in draw.choice(ITEMS, size=candidates, replace=candidates > len(ITEMS))]
    bought = [str(item) for item in draw.choice(ITEMS, size=draw.integers(0, 5))]
    now = 1_750_000_000_000_000 + seed
    return {
        "user_id": str(draw.choice([*USERS, "stranger"])),
        "event_time": now,
        "u_zone": str(draw.choice(["north", "south"])),
        "ctx_zone": None if seed % 3 == 0 else "south",
        "cand_item": items,
        "cand_text_sha": [sha("text", item) for item in items],
        "cand_image_sha": [sha("image", item) if at % 4 else None for at, item in enumerate(items)],
        "i_category": [CATEGORIES[ITEMS.index(item) % 3] for item in items],
        "i_price": [None if at % 5 == 4 else float(draw.integers(50, 500)) for at in range(candidates)],
        "x_item_buys": [float(item in bought) for item in items],
        "buy_item": bought,
        "buy_time": [now - int(draw.integers(1, 30)) * 43_200_000_000 for _ in bought],
    }


def make_bundle(
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    probes: int = 8,
    user_field: str = "u_zone",
    known: int = len(ITEMS),
    recipe: Mapping[str, Any] | None = None,
    wrong: float = 0.0,
    service: str = "ranker_test",
    model: str = "camenn",
) -> str:
    """Make a bundle.

    Args:
        folder: `bundles/`; `.names/<name>` there then holds the id.
        name: What tests call it.
        seed: Seed of the weights.
        probes: Number of probes.
        user_field: Name of a user's feature; another name gives another schema.
        known: Items whose tokens the bundle carries.
        recipe: Fields of the recipe that do not fit the weights, to make a bundle that cannot be loaded.
        wrong: Added to one logit of the last probe.
        service: Feature service that it names.
        model: Registered model.

    Returns:
        The bundle's id.
    """
    work = folder / f".making-{name}"
    work.mkdir(parents=True)
    made = encoding(user_field)
    made.save(work)
    attributes = {"category": np.array([0, *[[1, 2, 0][at % 3] for at in range(len(ITEMS))]], np.int32)}
    rows = {item: at for at, item in enumerate(ITEMS, start=1)}
    text, image = (["", *[sha(kind, item) for item in ITEMS]] for kind in ("text", "image"))
    save_items(work / "item_tokens", Items(rows, attributes, text, image))
    store = write_tokens(folder / ".tokens", ITEMS)
    texts, images = (sorted(shas[1 : known + 1]) for shas in (text, image))
    copy_tokens(work / "item_tokens", store, texts, images)
    _weights(work, made, seed, model)
    outputs = ["cvr_logit", "ita_logit", "tia_logit"] if model == "camenn" else ["cvr_logit"]
    signature = {"inputs": [asdict(i) for i in inputs_of(made)], "outputs": outputs}
    digest = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()
    info = {
        "format": FORMAT,
        "model": model,
        "negatives_kept": 0.5,
        "encoder": "tiny",
        "schema_hash": digest,
        **signature,
    }
    (work / "bundle.json").write_text(json.dumps(info), encoding="utf-8")
    (work / "manifest.json").write_text(json.dumps({"feature_service": service}), encoding="utf-8")
    _copy_code(work / "code")
    _probes(work, probes, user_field, wrong)
    (work / "recipe.json").write_text(json.dumps({**RECIPES[model], **(recipe or {})}), encoding="utf-8")
    sums = _sums(work)
    (work / "SHA256SUMS").write_text(sums, encoding="utf-8")
    bundle = hashlib.sha256(sums.encode()).hexdigest()[:16]
    work.rename(folder / bundle)
    (folder / ".names").mkdir(exist_ok=True)
    (folder / ".names" / name).write_text(bundle, encoding="utf-8")
    return bundle


def names(folder: Path) -> dict[str, str]:
    """Names that tests use → ids."""
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / ".names").iterdir()}


def _weights(bundle: Path, made: Encoding, seed: int, name: str) -> None:
    torch.manual_seed(seed)
    (bundle / "recipe.json").write_text(json.dumps(RECIPES[name]), encoding="utf-8")
    model = build(name, made.schema, RECIPES[name])
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, bundle / "dense.safetensors")
    lookup = Lookup(made.schema, model_class(name).spaces(made.schema, parse_recipe(name, RECIPES[name])))
    (bundle / "embeddings").mkdir()
    for space in {table.space for table in lookup.layout}:
        tables = {t.table: torch.randn(t.rows, t.width) for t in lookup.layout if t.space == space}
        save_file(tables, bundle / "embeddings" / f"{space}.safetensors")


def _probes(work: Path, count: int, user_field: str, wrong: float) -> None:
    scorer = Scorer(work)
    rows = []
    for seed in range(count):
        row = raw_request(seed)
        row[user_field] = row.pop("u_zone")
        rows.append({**row, **{name: logits.tolist() for name, logits in score(scorer, row).items()}})
    rows[-1]["cvr_logit"][0] += wrong
    pq.write_table(pa.Table.from_pylist(rows), work / "probes.parquet")


def score(scorer: Scorer, row: dict[str, Any]) -> dict[str, Any]:
    """The logits of a request's raw columns."""
    return scorer.score({spec.name: to_array(row[spec.column], spec.kind) for spec in scorer.inputs})
