"""Finite or stopped: a number that is not finite ends a training on all workers, before a checkpoint can hold it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from features import atomic
from features.errors import DataError
from trainer.data.stream import Step
from trainer.runtime.encoding import Encoded, Encoding
from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.ranker import RankingModel

FILE = "fault.json"  # in the training's folder, while a fault stops it


@dataclass(frozen=True)
class Fault:
    """A number of a training that is not finite.

    Args:
        what: Which number it is.
        requests: Ids of the requests that have it, or of all requests of the batch.
        where: Which batch it belongs to, in words.
    """

    what: str
    requests: list[str]
    where: str = ""

    def error(self, best_step: int) -> DataError:
        """The error that stops the training.

        Args:
            best_step: Step of the best checkpoint so far, -1 where there is none.
        """
        remedy = "mend or leave out what these requests hold, or lower the recipe's learning rates"
        if best_step >= 0:
            remedy += f"; or take the best checkpoint, of batch {best_step}: run again with --accept-best"
        what, field = f"{self.what} is not finite", f"requests of {self.where}"
        return DataError(what, field=field, value=self.requests, remedy=remedy)

    def save(self, folder: Path) -> None:
        """Note it in the training's folder."""
        atomic.write_text(folder / FILE, json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Fault | None:
        """The fault that stopped a training, if one did."""
        path = folder / FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def on_any_worker(bad: bool) -> bool:
    """Whether something is so on any worker; all of them call it and get the same."""
    if dist.get_world_size() == 1:
        return bad
    flag = torch.tensor(float(bad))
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)


def first_of_all(fault: Fault | None) -> Fault | None:
    """The fault of the first worker that has one; all of them call it and get the same."""
    found: list[Fault | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, fault)
    return next((one for one in found if one is not None), None)


def finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor are finite: by their sum, and one by one where that is not."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def gradient_fault(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> str | None:
    """The first parameter whose gradient is not finite, in words; the sum of all numbers tells whether there is any."""
    gradients = {name: p.grad for name, p in parameters if p.grad is not None}
    if not gradients or bool(torch.stack([gradient.sum() for gradient in gradients.values()]).sum().isfinite()):
        return None
    name = next((name for name, gradient in gradients.items() if not finite(gradient)), None)
    return None if name is None else f"the gradient of {name}"  # a sum of finite numbers may overflow


def weights_fault(tensors: Mapping[str, object], encoding: Encoding) -> str | None:
    """The first weight or sum of a checkpoint that is not finite, in words; each worker looks at what it holds.

    Args:
        tensors: What the checkpoint would hold, nested; tables may be sharded.
        encoding: Whose keys name the rows of tables.
    """
    for name, tensor, first_row in _held(tensors):
        if tensor.is_floating_point() and not finite(tensor):
            if "__" not in name or not tensor.dim():
                return f"the weight {name}"
            row = int((~tensor.isfinite().reshape(len(tensor), -1).all(dim=1)).nonzero()[0]) + first_row
            table = name.removesuffix(".weight").split("__")[-1]
            return f"row {row} of table {table} ({_key(encoding, table, row)})"
    return None


def _held(tensors: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Tensor, int]]:
    """Name, tensor and its first row of all that this worker holds."""
    for key, value in tensors.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _held(value, name)
        elif hasattr(value, "local_shards"):
            for shard in value.local_shards():
                yield name, shard.tensor, int(shard.metadata.shard_offsets[0])
        elif isinstance(value, Tensor):
            yield name, value, 0


def loss_fault(
    losses: Mapping[str, Tensor], batch: Batch, step: Step, ranker: RankingModel, encoding: Encoding
) -> Fault:
    """What made a loss not finite: tokens, an embedding, or the model; and the requests that have it.

    Args:
        losses: Name → loss, of which one is not finite.
        batch: What the model saw.
        step: The batch's indices and requests.
        ranker: The model, its weights as they were.
        encoding: Whose keys name the rows of tables.

    Returns:
        The fault, with the requests of this worker that have it, or all of the batch.
    """
    names = [name for name, loss in losses.items() if not bool(loss.isfinite())]
    found = f"the loss {', '.join(names)}" if names else "the loss"
    for bad_B, why in _causes(batch, step.encoded, encoding):
        return Fault(f"{found}, for {why},", _requests(step, bad_B))
    ranker.eval()
    with torch.no_grad():
        logits = ranker(batch)
    for task, logits_S in logits.items():
        bad_S = ~logits_S.isfinite()
        if bad_S.any():
            return Fault(f"{found}, for the logit {task},", _requests(step, _of_requests(batch, bad_S)))
    return Fault(found, step.batch_ids)


def logit_fault(task: str, logits_S: Tensor, step: Step) -> Fault | None:
    """The logits of held-out requests that are not finite; None where all are."""
    bad_S = ~logits_S.isfinite()
    if not bad_S.any():
        return None
    counts = step.encoded.counts["candidate"]
    owner_S = torch.repeat_interleave(torch.arange(len(counts)), counts)
    bad_B = torch.zeros(len(counts), dtype=torch.bool).index_fill_(0, owner_S[bad_S], True)
    return Fault(f"the logit {task} of held-out requests", _requests(step, bad_B))


def _causes(batch: Batch, encoded: Encoded, encoding: Encoding) -> Iterator[tuple[Tensor, str]]:
    """Requests [B] whose tokens or embeddings are not finite, and which these are."""
    if batch.content is not None:
        bad_I = ~_rows_finite(batch.content)
        if bad_I.any():
            yield _with_items(batch, bad_I), f"the tokens of {_content(batch.content, encoded, bad_I)}"
    fields = {f.name: f for f in encoding.fields}
    for of in batch.embedded.values():
        for name, x in of.items():
            bad = ~x.isfinite().all(dim=-1)
            if not bad.any():
                continue
            bad_B = bad if name in batch.request_fields else bad.any(1) if bad.dim() == 2 else _of_requests(batch, bad)
            row = int(batch.ids[name][bad][0])
            yield bad_B, f"the embedding of {name} {_key(encoding, fields[name].table, row)}"


def _rows_finite(content: ContentBatch) -> Tensor:
    """Whether each item's tokens are finite, [I]."""
    parts = (content.text_ITD, content.image_IPD, content.image_global_ID)
    return torch.stack([part.flatten(1).isfinite().all(dim=1) for part in parts]).all(dim=0)


def _with_items(batch: Batch, bad_I: Tensor) -> Tensor:
    """Requests [B] that show one of some items, or have one in a history."""
    assert batch.content is not None
    bad_B = _of_requests(batch, bad_I[batch.content.candidate_S])
    for name, items_BL in batch.content.history_BL.items():
        bad_B = bad_B | (bad_I[items_BL] & batch.masks_BL[name]).any(dim=1)
    return bad_B


def _content(content: ContentBatch, encoded: Encoded, bad_I: Tensor) -> str:
    """Content hashes of the first candidate among some items, or the words for an item of a history."""
    at = bad_I[content.candidate_S].nonzero().flatten()
    if not len(at):
        return "an item in a history"
    place = int(at[0])
    return f"text {encoded.candidate_text[place]} or photo {encoded.candidate_image[place]}"


def _of_requests(batch: Batch, bad_S: Tensor) -> Tensor:
    """Requests [B] with one of some candidates [S]."""
    requests = max(batch.requests, int(batch.request_S.max()) + 1 if len(batch.request_S) else 0)
    return torch.zeros(requests, dtype=torch.bool).index_fill_(0, batch.request_S[bad_S], True)


def _requests(step: Step, bad_B: Tensor) -> list[str]:
    return [step.request_ids[place] for place in bad_B.nonzero().flatten().tolist()]


def _key(encoding: Encoding, table: str, row: int) -> str:
    """What a row of a table stands for."""
    vocabulary = next((v for name, v in encoding.vocabularies.items() if name.replace(".", "_") == table), {})
    return next((repr(key) for key, index in vocabulary.items() if index == row), "unknown" if not row else f"#{row}")
