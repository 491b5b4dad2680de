"""The command line. Commands are listed here and loaded only when called, so that `--help` answers at once.

A command group is a module of `freshrank/commands/` that has `app`, a `typer.Typer`; a single command is one that has
`command`, a function. Register both in `COMMANDS` below.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from features.errors import FreshrankError

# name -> (module, one line of help, panel)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("freshrank.commands.demo", "Once round the loop on real servers, with a report.", "Start here"),
    "up": ("freshrank.commands.up", "Start the local stack; wait until every server works.", "Stack"),
    "down": ("freshrank.commands.down", "Stop the local stack.", "Stack"),
    "status": ("freshrank.commands.status", "Each server's state, address, memory and age.", "Stack"),
    "logs": ("freshrank.commands.logs", "The servers' logs.", "Stack"),
    "airflow": ("freshrank.commands.airflow", "Start and watch runs of the daily DAG.", "Stack"),
    "settings": ("freshrank.commands.settings", "Every setting: value, origin, meaning.", "Stack"),
    "topics": ("freshrank.commands.topics", "Create or check the Kafka topics.", "Data"),
    "source": ("freshrank.commands.source", "Publish a source's events to Kafka; describe a source.", "Data"),
    "ingest": ("freshrank.commands.ingest", "Kafka to the event log, exactly once.", "Data"),
    "labels": ("freshrank.commands.labels", "What became of each shown item, as known at a day's cut.", "Data"),
    "features": ("freshrank.commands.features", "Feast: definitions and snapshots, offline and online.", "Data"),
    "window": ("freshrank.commands.window", "Seven days and an evaluation day, immutable.", "Data"),
    "content": ("freshrank.commands.content", "Listings' texts and photos to tokens.", "Data"),
    "train": ("freshrank.commands.train", "A day's model on its window, or any model on a flat CTR set.", "Model"),
    "bundle": ("freshrank.commands.bundle", "Everything that makes the scores, immutable.", "Model"),
    "items": ("freshrank.commands.items", "Vectors of a day's items, for an index (MARN).", "Model"),
    "evaluate": ("freshrank.commands.evaluate", "A day's bundle beside incumbent and popularity.", "Model"),
    "gate": ("freshrank.commands.gate", "Whether a day's bundle may replace the incumbent, and why.", "Model"),
    "experiment": ("freshrank.commands.experiment", "Which users get which arm.", "Serving"),
    "rank": ("freshrank.commands.rank", "A ranked list from the gateway.", "Serving"),
    "deploy": ("freshrank.commands.deploy", "A bundle to Triton, probed, then routed to.", "Serving"),
    "rollback": ("freshrank.commands.rollback", "The champion before this one, at once.", "Serving"),
    "versions": ("freshrank.commands.versions", "What is live, and every version's state.", "Serving"),
    "parity": ("freshrank.commands.parity", "Whether serving agreed with training on a lived day.", "Analysis"),
    "catalog": ("freshrank.commands.catalog", "Listings whose text and photo do not fit.", "Analysis"),
    "study": ("freshrank.commands.study", "The papers' tables and figures on our data.", "Studies"),
}


_COMPLETING = "_FRESHRANK_COMPLETE"  # set by the shell's completion, by typer's convention


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called; listing them imports nothing."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        """Names of all commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ARG002
        """The command: a light stand-in while help is printed, the real one when it is called."""
        if cmd_name not in COMMANDS:
            return None
        module, text, panel = COMMANDS[cmd_name]
        if _only_listing():
            return typer.core.TyperCommand(cmd_name, help=text, rich_help_panel=panel)
        loaded: Any = importlib.import_module(module)
        holder = typer.Typer(add_completion=False)  # the root alone installs completion
        if hasattr(loaded, "app"):
            holder.add_typer(loaded.app, name=cmd_name)
            group = typer.main.get_command(holder)
            assert isinstance(group, TyperGroup)
            return group.commands[cmd_name]
        holder.command(cmd_name)(loaded.command)
        return typer.main.get_command(holder)


def _only_listing() -> bool:
    if _COMPLETING in os.environ:  # the line to complete is there, and not in sys.argv
        return False
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return not words


app = typer.Typer(
    cls=LazyGroup,
    help="Retrain a multimodal conversion-rate ranker daily from a Kafka event log; serve it A/B-tested from Triton.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        from freshrank.checkout import version

        print(f"freshrank {version()}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="The version, and nothing else.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the group; options that are common to all commands stand here."""


def main() -> None:
    """Run the command line; known errors become one line on stderr and their exit code."""
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):  # a caller's own stream
        # Where the terminal's encoding lacks a character of an ID or a path, the line says which, and does not crash.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app(prog_name="freshrank")
    except FreshrankError as error:
        print(f"freshrank: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        from freshrank.extras import lacking

        if (known := lacking(error)) is None:
            raise
        print(f"freshrank: {known}", file=sys.stderr)
        sys.exit(known.exit_code)


if __name__ == "__main__":
    main()
