"""What depends on content alone is computed once an item, and scores stay what they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.factory import Embedded, make_batch, make_schema, take_requests
from trainer.runtime.models.layers.memory import Memory

REMEMBERING = {"camenn": 1, "fashionbert": 1, "marn": 1, "mmss": 1, "naml": 1}


@pytest.mark.parametrize("name", REMEMBERING)
def test_scores_stay_and_contents_are_computed_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at the same listings computes none of them; new ones alone are computed; training forgets nothing
    but computes all."""
    torch.manual_seed(0)
    model = Embedded(name, make_schema(), {})
    both = make_batch(make_schema(), 6, 3, seed=1)
    first, second = take_requests(both, [0, 1, 2]), both
    computed: list[int] = []
    forward = Memory.forward

    def counted(self: Memory, content: Any, compute: Any, rows_N: Any = None) -> Any:
        def noted(found: Any) -> Any:
            computed.append(len(found.text_key_I))
            return compute(found)

        return forward(self, content, noted, rows_N)

    monkeypatch.setattr(Memory, "forward", counted)
    model.eval()
    with torch.inference_mode():
        wanted = [model(first), model(second)]
        model.model.cache_content()
        computed.clear()
        found = [model(first), model(first), model(second)]
    content = both.content
    assert content is not None
    asked = content.candidate_S if name == "camenn" else torch.arange(len(content.text_key_I))
    keys = zip(content.text_key_I[asked].tolist(), content.image_key_I[asked].tolist(), strict=True)
    assert sum(computed) == len(set(keys))
    computed.clear()
    for got, want in zip(found, [wanted[0], wanted[0], wanted[1]], strict=True):
        for task, logits_S in want.items():
            torch.testing.assert_close(got[task], logits_S, atol=1e-5, rtol=1e-5)
    model.train()
    model.losses(first)
    assert len(computed) == (name != "camenn")


def test_a_full_memory_begins_anew() -> None:
    """Beyond its limit it forgets all and goes on."""
    batch = make_batch(make_schema(), 6, 3, seed=1).content
    assert batch is not None
    memory, asked = Memory(limit=3), []

    def compute(content: Any) -> torch.Tensor:
        asked.append(len(content.text_key_I))
        return content.image_global_ID * 2.0

    memory.begin()
    memory.eval()
    for _ in range(2):
        torch.testing.assert_close(memory(batch, compute), batch.image_global_ID * 2.0)
    rows = torch.tensor([2, 0, 2])
    torch.testing.assert_close(memory(batch, compute, rows), batch.image_global_ID[rows] * 2.0)
    assert asked[0] > 3
    assert len(asked) == 3
