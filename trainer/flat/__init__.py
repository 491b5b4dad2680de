"""Flat sets for click-through rates: a table of fields and a label, plain embedding tables, any registered model."""

from trainer.flat.run import run

__all__ = ["run"]
