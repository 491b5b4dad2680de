"""A look at the held-out tenth during training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from trainer.data.stream import Stream


@torch.no_grad()
def look(model: nn.Module, stream: Stream, task: str) -> tuple[float, float | None]:
    """Log loss and AUC of the held-out requests; all workers call it and get the same.

    Args:
        model: The distributed trainee.
        stream: The held-out requests.
        task: The task that decides.

    Returns:
        Log loss, NaN where nothing is held out; and AUC, None where there is one class only.
    """
    from sklearn.metrics import roc_auc_score

    model.eval()
    logits, labels, twice = [], [], 1
    for batch in stream.epoch():
        if batch.requests < dist.get_world_size() and dist.get_rank() > 0:
            twice = 0  # a batch too small to share: every worker has all of it, the first one counts it
        scored = model(batch.encoded, score=True)[task]
        if twice:
            logits.append(scored)
            labels.append(batch.encoded.labels[task])
        twice = 1
    own = (torch.cat(logits), torch.cat(labels)) if logits else (torch.empty(0), torch.empty(0))
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    logit, label = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    if not len(label):
        return float("nan"), None
    loss = float(functional.binary_cross_entropy_with_logits(logit.double(), label.double()))
    both = 0 < float(label.sum()) < len(label)
    return loss, float(roc_auc_score(label.numpy(), logit.numpy())) if both else None
