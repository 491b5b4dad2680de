"""What a demo does: its days, sizes and settings. What it reduces against production stands in docs/demo.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EXPERIMENT, CHAMPION_ARM, CONTROL_ARM = "ranker", "camenn", "popularity"
ARMS = {"uniform": 0.10, "popularity": 0.45, "camenn": 0.45}
EXPERIMENTS = f"""\
[{EXPERIMENT}]

[{EXPERIMENT}.arms]
uniform = {{ share = {ARMS["uniform"]}, policy = "uniform" }}
popularity = {{ share = {ARMS["popularity"]}, alias = "popularity" }}
camenn = {{ share = {ARMS["camenn"]}, alias = "champion" }}
"""


@dataclass(frozen=True)
class DemoPlan:
    """A demo.

    Args:
        name: Folder below `runs/`.
        source: An installed source, such as `city`.
        seed: Of the source, of training, of sampling.
        runs: Folder of all runs.
        port_base: First port of the demo's own stack.
        requests_per_day: Requests a day, where users are simulated.
        shoppers: Those users.
        listings: Live listings, where they are simulated.
        previews: Live requests for which both arms' lists are compared.
        small: A demo for tests.
    """

    name: str
    source: str = "city"
    seed: int = 100
    runs: Path = Path("runs")
    port_base: int = 18000
    requests_per_day: int = 1600
    shoppers: int = 1500
    listings: int = 2000
    previews: int = 400
    small: bool = False

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return (self.runs / self.name).resolve()

    @property
    def settings_file(self) -> Path:
        """The run's settings."""
        return self.folder / "freshrank.toml"

    @property
    def options(self) -> tuple[str, ...]:
        """The sizes as options of a simulation."""
        return (
            f"requests_per_day={self.requests_per_day}",
            f"shoppers={self.shoppers}",
            f"listings={self.listings}",
        )

    def settings(self, features: Mapping[str, Sequence[str]]) -> str:
        """The run's `freshrank.toml`.

        Args:
            features: Settings `features.*` that the source wants.
        """
        lines = [
            "[stack]",
            'dir = "stack"',
            f"port_base = {self.port_base}",
            "[airflow]",
            'schedule = ""',
            "[train]",
            f"seed = {self.seed}",
            "negatives_per_positive = 6.0",
            "requests_per_batch = 24",
            "epochs = 1",
            "threads = 1",
            "validations_per_epoch = 2",
            "[train.recipe.camenn]",
            'history = "item"',
            'target = "modalities"',
            'alignment_form = "tokens"',
            'fields = "groups"',
            "alignment_pairs = 16",
            "[train.recipe.camenn.optimizer]",
            'decay = "linear"',
            "[content]",
            "max_text_tokens = 30",
            "[gateway]",
            "accept_client_time = true",
            "list_length = 20",
            "young_slots = 3",
        ]
        if features:
            lines += ["[features]", *(f"{name} = {json.dumps(list(values))}" for name, values in features.items())]
        if self.small:  # too little to learn from: the gate lets everything through, so that every step is walked
            lines += ["[gate]", "min_requests = 1", "min_positives = 1", "max_auc_loss = 1.0", "over_popularity = -1.0"]
            lines += ["max_calibration_error = 1000.0", "max_log_loss_over_popularity = 1000.0"]
            lines += ["max_log_loss_rise = 1000.0"]
        return "\n".join(lines) + "\n"
