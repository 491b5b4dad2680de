"""Embedding tables on TorchRec: one collection a space, sharded by the planner, optimised inside the backward pass.

FBGEMM's kernels want widths in fours, so tables are padded and what the model gets is cut back; the padding's gradient
is zero and its values stay zero.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torchrec
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.model_parallel import DefaultDataParallelWrapper, get_default_sharders
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.types import ShardingEnv
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from trainer.runtime.encoding import Encoded
from trainer.runtime.lookup import Embedded, Table, tables
from trainer.runtime.models.recipe import Optimizer
from trainer.runtime.models.schema import Schema, Space


def padded(width: int) -> int:
    """The next multiple of four.

    Example:
        >>> [padded(width) for width in (1, 4, 10)]
        [4, 4, 12]
    """
    return -(-width // 4) * 4


class ShardedLookup(nn.Module):
    """The same lookup as `trainer.runtime.lookup.Lookup`, and made of the same, on TorchRec's collections."""

    def __init__(self, schema: Schema, spaces: tuple[Space, ...]) -> None:
        super().__init__()
        self.layout = tuple(tables(schema, spaces))
        self._level = _levels(schema)
        self.collections = nn.ModuleDict()
        self._features: dict[str, list[str]] = {}
        self._widths: dict[str, int] = {}
        for space in dict.fromkeys(t.space for t in self.layout):
            own = [t for t in self.layout if t.space == space]
            self._features[space] = [name for t in own for name in t.features]
            self._widths[space] = own[0].width
            self.collections[space] = torchrec.EmbeddingCollection(
                device=torch.device("meta"),
                tables=[
                    torchrec.EmbeddingConfig(
                        name=table_name(t),
                        embedding_dim=padded(t.width),
                        num_embeddings=t.rows,
                        feature_names=[_feature(name) for name in t.features],
                    )
                    for t in own
                ],
            )

    def forward(self, encoded: Encoded) -> Embedded:
        """Look indices up.

        Args:
            encoded: Indices of B requests.

        Returns:
            Space → field → vectors, flat: [B, D], [S, D] or [N, D].
        """
        ones = torch.ones_like(encoded.counts["candidate"])
        found: Embedded = {}
        for space, names in self._features.items():
            lengths = [ones if self._level[name] == "request" else encoded.counts[self._level[name]] for name in names]
            jagged = torchrec.KeyedJaggedTensor(
                keys=[_feature(name) for name in names],
                values=torch.cat([encoded.ids[name] for name in names]),
                lengths=torch.cat(lengths).int(),
            )
            out = self.collections[space](jagged)
            width = self._widths[space]
            found[space] = {name: out[_feature(name)].values()[:, :width] for name in names}
        return found


def table_name(t: Table) -> str:
    """TorchRec's name of a table."""
    return f"{t.space}__{t.table}".replace(".", "_")


def distribute(module: nn.Module, optimizer: Optimizer) -> DistributedModelParallel:
    """Shard a module's collections over the workers by the planner's plan; replicate the rest.

    Args:
        module: A module that holds a `ShardedLookup`, its tables on the meta device.
        optimizer: The recipe's; its `table_lr` and `table_exact` choose the tables' fused Adagrad.
    """
    collections = [m for m in module.modules() if isinstance(m, torchrec.EmbeddingCollection)]
    kind: Any = torch.optim.Adagrad if optimizer.table_exact else torchrec.optim.RowWiseAdagrad
    for collection in collections:
        apply_optimizer_in_backward(kind, collection.parameters(), {"lr": optimizer.table_lr, "eps": 1e-8})
    for name in ("types", "storage_reservations"):  # remarks on hardware that a CPU topology does not have
        logging.getLogger(f"torchrec.distributed.planner.{name}").setLevel(logging.ERROR)
    world: Any = dist.group.WORLD
    sharders: Any = get_default_sharders()
    workers = dist.get_world_size()
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=workers, local_world_size=workers, compute_device="cpu")
    )
    plan = planner.collective_plan(module, sharders, world)
    return DistributedModelParallel(
        module,
        env=ShardingEnv.from_process_group(world),
        device=torch.device("cpu"),
        plan=plan,
        sharders=sharders,
        # experts that no gate chose have no gradient, and which ones changes from batch to batch
        data_parallel_wrapper=DefaultDataParallelWrapper(static_graph=False, find_unused_parameters=True),
    )


def fill(module: DistributedModelParallel, weights: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
    """Set the tables' weights, each worker its shards.

    Args:
        module: The distributed module.
        weights: TorchRec's table name → full weights [rows, padded width].
        sums: Table name → Adagrad's sums, [rows] or [rows, padded width]; tables without keep their zeros.
    """
    states = {**_shards(module.state_dict()), **_shards(optimizer_state(module))}
    for key, parts in states.items():
        name = key.rsplit(".", 1)[0].rsplit(".", 1)[-1] if key.endswith(".weight") else key
        full = weights.get(name) if key.endswith(".weight") else sums.get(name)
        if full is None:
            continue
        for offsets, shard in parts:
            part = full
            for dim, (offset, size) in enumerate(zip(offsets, shard.shape, strict=True)):
                part = part.narrow(dim, offset, size)
            with torch.no_grad():
                shard.copy_(part)


def initial_accumulators(weights: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, Tensor]:
    """Where the tables' Adagrad begins: table name → sums; empty for zeros."""
    if not optimizer.table_initial_accumulator:
        return {}
    start, exact = optimizer.table_initial_accumulator, optimizer.table_exact
    return {name: torch.full_like(weight if exact else weight[:, 0], start) for name, weight in weights.items()}


def optimizer_state(module: DistributedModelParallel) -> dict[str, object]:
    """Table name → Adagrad's sums of it."""
    found = {}
    for state in module.fused_optimizer.state_dict()["state"].values():
        for key, value in state.items():
            if "momentum1" in key or "sum" in key:
                found[key.rsplit(".", 1)[0]] = value
    return found


def _shards(state: Mapping[str, object]) -> dict[str, list[tuple[list[int], Tensor]]]:
    """Name → this worker's shards with their offsets, for sharded tensors; whole tables where there is one worker."""
    found: dict[str, list[tuple[list[int], Tensor]]] = {}
    for key, value in state.items():
        if hasattr(value, "local_shards"):
            found[key] = [(list(s.metadata.shard_offsets), s.tensor) for s in value.local_shards()]
        elif isinstance(value, Tensor):
            found[key] = [([0] * value.dim(), value)]
    return found


def initial(layout: tuple[Table, ...], seed: int) -> Iterator[tuple[Table, Tensor]]:
    """Initial weights of each table, [rows, padded width]; the same for any number of workers."""
    for place, t in enumerate(layout):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + place)
        weight = torch.zeros(t.rows, padded(t.width))
        weight[:, : t.width] = torch.randn(t.rows, t.width, generator=rng) * t.init_std
        yield t, weight


def _levels(schema: Schema) -> dict[str, str]:
    found = {f.name: "request" for f in schema.group("user", "context")}
    found |= {f.name: "candidate" for f in schema.group("item", "cross")}
    return found | {f.name: s.name for s in schema.sequences for f in s.features}


def _feature(name: str) -> str:
    """TorchRec forbids some characters of names in keys."""
    return name.replace("@", "_at_").replace(".", "_of_")
