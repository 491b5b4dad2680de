"""Runs ingest in a process that a test can kill: `python -m tests.integration.ingest_child '<json>'`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from features.configuration import read
from features.eventlog.ingest import ingest
from features.layout import Layout
from features.settings import KafkaSettings


def main() -> None:
    """Ingest in small commits."""
    asked = json.loads(sys.argv[1])
    settings = read(KafkaSettings, asked["kafka"])
    ingest(settings, Layout(Path(asked["dir"])), batch_records=asked["batch_records"])


if __name__ == "__main__":
    main()
