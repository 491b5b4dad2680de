"""What runs inside Triton's Python backend; a bundle carries a copy, so that old weights run on old code.

Needs torch, numpy (below 2), safetensors and the standard library alone.
"""
