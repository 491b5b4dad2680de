"""Validation during training: log loss and AUC of the held-out tenth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainer.data.stream import Stream
from trainer.evaluate.metrics import auc, log_loss
from trainer.finite import Fault, first_of_all, logit_fault


@dataclass(frozen=True)
class Validation:
    """What a validation run found.

    Args:
        loss: Log loss, finite.
        auc: AUC; None where there is one class only.
    """

    loss: float
    auc: float | None


@torch.no_grad()
def validate(model: nn.Module, stream: Stream, task: str) -> Validation | Fault | None:
    """Log loss and AUC of the held-out requests; all workers call it and get the same.

    Args:
        model: The distributed trainee.
        stream: The held-out requests.
        task: The task that decides.

    Returns:
        What it found, or the first logit that is not finite; None where nothing is held out.
    """
    model.eval()
    logits, labels, fault = [], [], None
    for batch in stream.epoch():
        scored = model(batch.encoded, score=True)[task]
        if batch.requests < dist.get_world_size() and dist.get_rank() > 0:
            continue  # a batch too small to share: every worker has all of it, the first one counts it
        fault = fault or logit_fault(task, scored, batch)
        logits.append(scored)
        labels.append(batch.encoded.labels[task])
    if fault := first_of_all(fault):
        return fault
    own = (torch.cat(logits), torch.cat(labels)) if logits else (torch.empty(0), torch.empty(0))
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    logit, label = (torch.cat([part[i] for part in parts]).numpy() for i in (0, 1))
    loss = log_loss(logit, label)
    return None if loss is None else Validation(loss, auc(logit, label))
