"""The portable runtime: what makes a score of raw features, in training, evaluation and service alike.

Models, encoding, lookup, content tokens, scorer, and Triton's side of them. It imports torch, numpy (below 2 within
Triton), safetensors and the standard library alone: a bundle carries a copy of this one folder (`code/`) and is scored
by it for as long as it is served, so that old weights run on old code.
"""
