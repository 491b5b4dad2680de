"""`freshrank items`: representations of a day's items, for an index that stores them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer


def command(
    date: Annotated[str, typer.Option(help="The run's day D, YYYY-MM-DD, whose requests name the items.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write: item_id, role, event_time, vector.")],
    model: Annotated[str, typer.Option(help="Model whose bundle of the day represents them.")] = "marn",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Write the vectors of a day's candidates and of the items of its histories, each as of its newest request."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features import atomic
    from features.times import parse_date
    from freshrank.pipeline.bundle import Bundled
    from freshrank.pipeline.step import beside
    from freshrank.pipeline.train import make_job
    from freshrank.settings import load
    from trainer.bundle import load_scorer
    from trainer.data.window import Window
    from trainer.item_vectors import item_vectors
    from trainer.tokens import TokenStore

    began, settings, day = time.monotonic(), load(), parse_date(date)
    bundle = Bundled.read(settings.layout, day, beside(settings, model)).bundle
    job = make_job(settings, day, model)
    scorer = load_scorer(settings.layout.bundle(bundle), TokenStore(Path(job.tokens)) if job.tokens else None)
    table, sink = item_vectors(scorer, Window(Path(job.window)).evaluation), pa.BufferOutputStream()
    pq.write_table(table, sink)
    atomic.write_bytes(out, sink.getvalue().to_pybytes())
    width = len(table["vector"][0]) if table.num_rows else 0
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print(json.dumps({"bundle": bundle, "vectors": table.num_rows, "width": width, "seconds": seconds}))
        return
    print(f"items: {table.num_rows} vectors of width {width} from {bundle} in {out}, in {seconds} s")
