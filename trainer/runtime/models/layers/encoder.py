"""The standard transformer encoder block, whose queries may also attend to a prefix encoded before.

Shape suffixes: N sequences, L their tokens, P tokens of the prefix, Q tokens whose output is wanted, D width, H heads,
K width of a head; S tokens that stand alone, B prefixes, C tokens that share one, at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.layers.mlp import Dropout


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of tokens, computed once and attended to by many sequences.

    Args:
        keys_NHPK: Keys.
        values_NHPK: Values.
        mask_NP: True where there is a token.
    """

    keys_NHPK: Tensor
    values_NHPK: Tensor
    mask_NP: Tensor

    def take(self, rows: Tensor) -> KeysValues:
        """Those of some sequences, with repetition."""
        return KeysValues(*(x.index_select(0, rows) for x in (self.keys_NHPK, self.values_NHPK, self.mask_NP)))


class EncoderBlock(nn.Module):
    """Multi-head self-attention and a feed-forward layer, each with residual and layer norm after it.

    Vaswani et al. 2017, section 3.1: post-norm, ReLU, dropout on the output of each sub-layer. Equal to
    `nn.TransformerEncoderLayer(norm_first=False)` with its dropout of attention weights left out.

    Args:
        width: Width of tokens (D).
        heads: Attention heads (H), a divisor of the width.
        feed_forward: Width of the hidden layer.
        dropout: Share dropped.
        activate: Activation of the hidden layer.

    Example:
        >>> block = EncoderBlock(width=8, heads=2, feed_forward=16, dropout=0.0)
        >>> block(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        activate: Callable[[Tensor], Tensor] = functional.relu,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of heads {heads}")
        self.heads, self.activate = heads, activate
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide = nn.Linear(width, feed_forward)
        self.narrow = nn.Linear(feed_forward, width)
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def keys_values(self, x_NPD: Tensor, mask_NP: Tensor) -> KeysValues:
        """Keys and values of tokens that other sequences will attend to.

        Args:
            x_NPD: Tokens, as they enter this block.
            mask_NP: True where there is a token.
        """
        width = x_NPD.shape[-1]
        keys_NPD, values_NPD = functional.linear(x_NPD, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)
        return KeysValues(self._split(keys_NPD), self._split(values_NPD), mask_NP)

    def forward(
        self, x_NLD: Tensor, mask_NL: Tensor, prefix: KeysValues | None = None, first: int | None = None
    ) -> Tensor:
        """Encode sequences.

        Args:
            x_NLD: Tokens.
            mask_NL: True where there is a token. The output at masked positions is finite and means nothing.
            prefix: Keys and values to attend to besides, one row a sequence.
            first: Compute the output of that many tokens at the front alone.

        Returns:
            [N, Q, D], with Q = L where `first` is None.
        """
        own = self.keys_values(x_NLD, mask_NL)
        width = x_NLD.shape[-1]
        x_NQD = x_NLD if first is None else x_NLD[:, :first]
        query_NHQK = self._split(functional.linear(x_NQD, self.qkv.weight[:width], self.qkv.bias[:width]))
        keys, values, mask = own.keys_NHPK, own.values_NHPK, own.mask_NP
        if prefix is not None:
            keys = torch.cat([prefix.keys_NHPK, keys], dim=2)
            values = torch.cat([prefix.values_NHPK, values], dim=2)
            mask = torch.cat([prefix.mask_NP, mask], dim=1)
        # a sequence without any token attends everywhere: finite, and masked wherever it is read
        allowed = mask | ~mask.any(dim=1, keepdim=True)
        mixed_NHQK = functional.scaled_dot_product_attention(query_NHQK, keys, values, allowed[:, None, None, :])
        return self._finish(x_NQD, mixed_NHQK.transpose(1, 2).flatten(2))

    def alone(self, x_SD: Tensor, prefix: KeysValues, row_S: Tensor) -> Tensor:
        """Encode tokens that attend to a prefix each and to themselves, and not to one another.

        Equal to sequences of one token with `prefix.take(row_S)`, which would copy a prefix for each token: here the
        tokens of a prefix are grouped, padded to as many as the largest group has, and attend to it where it lies.

        Args:
            x_SD: Tokens.
            prefix: Keys and values.
            row_S: Row of the prefix of each token, ascending.

        Returns:
            [S, D].
        """
        prefixes, width = len(prefix.mask_NP), x_SD.shape[1]
        count_B = torch.bincount(row_S, minlength=prefixes)
        most = int(count_B.max()) if len(row_S) else 0
        begin_B = count_B.cumsum(0) - count_B
        place_S = row_S * most + torch.arange(len(row_S), device=row_S.device) - begin_B[row_S]
        parts_SX = self.qkv(x_SD)
        padded_BCX = parts_SX.new_zeros(prefixes * most, 3 * width).index_copy(0, place_S, parts_SX)
        query_BHCK, key_BHCK, value_BHCK = (
            self._split(part) for part in padded_BCX.view(prefixes, most, 3 * width).chunk(3, dim=2)
        )
        past_BHCP = query_BHCK @ prefix.keys_NHPK.transpose(2, 3)
        past_BHCP = past_BHCP.masked_fill(~prefix.mask_NP[:, None, None], -torch.inf)
        own_BHC1 = (query_BHCK * key_BHCK).sum(3, keepdim=True)
        scores_BHCX = torch.cat([past_BHCP, own_BHC1], dim=3) * query_BHCK.shape[3] ** -0.5
        past_BHCP, own_BHC1 = torch.tensor_split(torch.softmax(scores_BHCX, dim=3), [past_BHCP.shape[3]], dim=3)
        mixed_BHCK = past_BHCP @ prefix.values_NHPK + own_BHC1 * value_BHCK
        mixed_SD = mixed_BHCK.transpose(1, 2).reshape(prefixes * most, width).index_select(0, place_S)
        return self._finish(x_SD, mixed_SD)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the mixing of values, for [..., D]."""
        x = self.norm_attention(x + self.dropout(self.out(mixed)))
        hidden = self.narrow(self.dropout(self.activate(self.wide(x))))
        encoded: Tensor = self.norm_feed_forward(x + self.dropout(hidden))
        return encoded

    def _split(self, x_NLD: Tensor) -> Tensor:
        n, length, width = x_NLD.shape
        return x_NLD.view(n, length, self.heads, width // self.heads).transpose(1, 2)
