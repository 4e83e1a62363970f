"""The command line: ``modyn-client`` (also ``modyn``).

Commands live in :mod:`modyn.client.commands`; this module puts them together and turns errors into one screen and an
exit status. Commands import heavy libraries when they run, so that ``--help`` and typing errors answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from modyn.client.commands import (
    configuration,
    datasets,
    evaluate,
    gc,
    models,
    pipelines,
    reports,
    run,
    serve,
    triggers,
)
from modyn.client.options import debugging
from modyn.client.signals import Interrupted

MAX_ERROR_LINES = 45
"""An error is one screen."""

EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


class _ReportingGroup(TyperGroup):
    """Turns whatever a command raises into a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted as error:
            _fail(f"interrupted by {error.name}", error.exit_status)
        except KeyboardInterrupt:
            _fail("interrupted", Interrupted(signal.SIGINT).exit_status)
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_BROKEN_PIPE) from None
        except Exception as error:
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):
                raise  # Typer's own, such as a usage error
            _fail(*_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """Message and exit status."""
    from modyn.core.errors import ModynError  # not at the top: it loads gRPC, which `--help` does not need

    if isinstance(error, ModynError):
        return error.message, error.exit_status
    if isinstance(error, OSError) and error.strerror:  # no defect: a full disk, a folder that vanished
        return f"{error.filename or 'a file'}: {error.strerror}", 1
    hint = "" if debugging() else "; run again with --debug to see where"
    return f"internal error: {type(error).__name__}: {error}{hint}", 1


app = typer.Typer(
    name="modyn-client",
    cls=_ReportingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Decide when to retrain a model on growing data and on which samples, and learn what it was worth.",
)
app.command("run")(run.run)
app.command("submit")(run.submit)
app.command("simulate")(triggers.simulate)
app.command("watch")(pipelines.watch)
app.command("status")(pipelines.status)
app.command("list")(pipelines.list_pipelines)
app.command("stop")(pipelines.stop)
app.command("trigger")(triggers.trigger)
app.command("triggers")(triggers.explain)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(reports.report)
app.command("compare")(reports.compare)
app.command("validate")(configuration.validate)
app.command("schema")(configuration.schema)
app.command("serve")(serve.serve)
app.command("gc")(gc.gc)
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")


def _version(show: bool) -> None:
    if show:
        from modyn.core.versions import package_version

        typer.echo(f"modyn {package_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of ``modyn-client`` and ``modyn``."""
    signal.signal(signal.SIGTERM, _terminate)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before it is imported; what it logs comes as an error anyway
    handler = logging.StreamHandler()
    handler.setFormatter(_LogFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no news of its font cache
    app()


class _LogFormatter(logging.Formatter):
    """Tracebacks of a server in this process are for ``--debug`` too."""

    def formatException(self, ei: Any) -> str:
        return super().formatException(ei) if debugging() else ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _fail(message: str, exit_status: int) -> NoReturn:
    if debugging():
        traceback.print_exc()
    lines = message.splitlines() or [""]
    if len(lines) > MAX_ERROR_LINES:
        lines = [*lines[:MAX_ERROR_LINES], f"… and {len(lines) - MAX_ERROR_LINES} more lines"]
    typer.echo("error: " + "\n".join(lines), err=True)
    raise typer.Exit(exit_status)


if __name__ == "__main__":
    main()
