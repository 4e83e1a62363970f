"""``modyn-client validate --deep``: a check of a pipeline on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from modyn.client.connection import Target
from modyn.client.running import serving
from modyn.client.tables import console, new_table
from modyn.proto.supervisor_pb2 import CheckedStep


def check_file(path: Path, name: str, target: Target) -> None:
    """Checks a pipeline and shows what was found.

    Args:
        path: of the pipeline.
        name: of the pipeline.
        target: where; without a server a private one is started, which ingests what the pipeline's sources have.

    Raises:
        InvalidInputError: what is wrong with it.
        ModynError: it could not be checked.
    """
    steps: list[CheckedStep] = []
    try:
        with serving(target, f"validate {name}") as client:
            client.check(path, on_step=steps.append)
    finally:
        if steps:
            print_steps(name, steps)


def print_steps(name: str, steps: Sequence[CheckedStep]) -> None:
    """A row for each step; notices below."""
    table = new_table(f"{name}: one batch through everything", "step", "found", "seconds")
    for step in steps:
        found = "failed" if step.HasField("error") else step.found
        table.add_row(escape(step.what), escape(found), f"{step.seconds:.2f}")
    out = console()
    out.print(table)
    for step in steps:
        for notice in step.notices:
            out.print(escape(f"{step.what}: {notice}"), soft_wrap=True)
