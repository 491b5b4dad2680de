"""Open a window and print the first `Batch` that a model sees of it: each tensor with its shape.

    .venv/bin/python examples/window_batch.py .freshrank/windows/<id> [model]

The way of a request: Parquet → `Stream` draws requests → `Encoding` turns raw values into indices → `Lookup` turns
indices into vectors → `assemble` pads histories and adds content. Letters after a tensor's name are its axes: B
requests, S candidates of all requests, L positions of a history, I distinct items, T text tokens, P photo patches, D
widths.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.derive import derive, item_table
from trainer.data.stream import RequestSlice, Stream
from trainer.data.window import Window
from trainer.runtime.content import ContentSource
from trainer.runtime.lookup import Lookup, assemble
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.registry import build, model_class, parse_recipe
from trainer.settings import TrainSettings
from trainer.tokens import TokenStore


def first_batch(folder: Path, model: str, requests: int = 16) -> Batch:
    """The first batch of a window.

    Args:
        folder: `windows/<id>`; its content tokens lie beside `windows/`.
        model: Registered model, which decides what is read of the window.
        requests: Requests of the batch.
    """
    window = Window(folder)
    encoder = window.encoder()
    store = folder.resolve().parents[1] / "tokens" / encoder if encoder else None
    tokens = TokenStore(store) if store and store.exists() else None
    # Vocabularies and bucket edges come from the training days: 0 is what they lack.
    whole, _ = derive(window, TrainSettings(), tokens.widths if tokens else None)
    kind, recipe = model_class(model), parse_recipe(model, {})
    encoding = whole.narrowed(kind.reads(whole.schema, recipe))
    items = item_table(folder / "items.parquet", encoding)
    step = next(Stream(RequestSlice(tuple(window.training)), encoding, items, requests).epoch())
    lookup = Lookup(encoding.schema, kind.spaces(encoding.schema, recipe))  # all zero until it is trained
    content = ContentSource(tokens, items) if tokens and encoding.content else None
    batch = assemble(encoding.schema, step.encoded, lookup(step.encoded), content)
    with torch.inference_mode():
        logits = build(model, encoding.schema, {}).eval()(batch)
    print(f"{model} scores {', '.join(f'{task} {shape(x)}' for task, x in logits.items())}")
    return batch


def lines(value: object, name: str = "Batch") -> Iterator[str]:
    """A line a tensor: its name, shape and type."""
    if isinstance(value, Tensor):
        yield f"{name:<45} {shape(value)} {str(value.dtype).removeprefix('torch.')}"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from lines(item, f"{name}[{key!r}]")
    elif is_dataclass(value):
        for f in fields(value):
            yield from lines(getattr(value, f.name), f"{name}.{f.name}")


def shape(x: Tensor) -> str:
    """A tensor's shape."""
    return str(list(x.shape))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for line in lines(first_batch(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "camenn")):
        print(line)
