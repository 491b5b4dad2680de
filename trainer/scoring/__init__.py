"""Scoring from raw features: the one code path of probes, evaluation and the Triton runtime.

Needs torch, numpy, safetensors and the standard library alone; a bundle carries a copy of it (`code/`).
"""

from trainer.scoring.scorer import Scorer

__all__ = ["Scorer"]
