"""Reading pipelines: YAML text in, a checked configuration (or every problem at once) out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modyn.core.config.pipeline import PipelineConfig
from modyn.core.config.problems import Problem, problems_of, shown
from modyn.core.config.published import Reading
from modyn.core.config.schema import json_schema
from modyn.core.config.source import Document, Location, YamlMapping, read_document, read_text, write_yaml
from modyn.core.errors import InvalidInputError, NotAvailableError

__all__ = [
    "LoadedPipeline",
    "json_schema",
    "load_evaluation_text",
    "load_pipeline_file",
    "load_pipeline_text",
    "resolved_yaml",
]


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline file that has no errors.

    Attributes:
        name: of the file.
        config: None if the pipeline needs something a later release will have.
        notices: what the user should know, such as keys without effect; one line each.
        planned: what it needs that this release does not have yet; one line each.
    """

    name: str
    config: PipelineConfig | None
    notices: list[str] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)

    def require_runnable(self) -> PipelineConfig:
        """The configuration of a pipeline that this release can run.

        Raises:
            NotAvailableError: it needs what a later release will have.
        """
        if self.config is None:
            lines = "\n".join(f"  {line}" for line in self.planned)
            raise NotAvailableError(f"{self.name} is valid but cannot run yet:\n{lines}")
        return self.config


def load_pipeline_file(path: Path | str) -> LoadedPipeline:
    """Reads a pipeline file; see :func:`load_pipeline_text`."""
    path = Path(path)
    return load_pipeline_text(read_text(path), str(path))


def load_pipeline_text(text: str, name: str) -> LoadedPipeline:
    """Reads a pipeline.

    Args:
        text: YAML.
        name: of the file, for messages.

    Raises:
        InvalidInputError: with every problem, one a line, in the order of the file. Nothing is executed: inline
            Python is only compiled.
    """
    document = read_document(text, name)
    return _load(document, document.tree)


def load_evaluation_text(text: str, name: str, pipeline: PipelineConfig) -> LoadedPipeline:
    """Reads an ``evaluation`` section for the models of a pipeline that is there.

    Args:
        text: YAML, the keys of the section; or a mapping that has the section, such as a pipeline file, of which
            nothing else is looked at.
        name: of the file, for messages.
        pipeline: whose models they are. What the section leaves out, but for handlers, is as in its own section.

    Returns:
        The pipeline with this section in place of its own.

    Raises:
        InvalidInputError: with every problem, one a line, in the order of the file.
    """
    document = read_document(text, name)
    nested = "evaluation" in document.tree
    section = document.tree["evaluation"] if nested else document.tree
    if not isinstance(section, YamlMapping):
        raise InvalidInputError(f"{name}: evaluation: expected a mapping with handlers; got {shown(section)}")
    tree = pipeline.model_dump(mode="json")
    whole = YamlMapping(
        {key: value for key, value in (tree["evaluation"] or {}).items() if key != "handlers"} | section
    )
    whole.location = section.location
    document.problems = [
        (location, text) for location, text in document.problems if not nested or location[:1] == ("evaluation",)
    ]
    return _load(document, {**tree, "evaluation": whole}, () if nested else ("evaluation",))


def _load(document: Document, tree: Mapping[str, Any], above: Location = ()) -> LoadedPipeline:
    """Checks a tree.

    Args:
        document: with lines and problems.
        tree: the whole pipeline.
        above: where in it the document is.
    """
    name = document.name
    reading = Reading()
    problems = [Problem(location, text) for location, text in document.problems]
    config = None
    try:
        config = PipelineConfig.model_validate(tree, context=reading)
    except ValidationError as error:
        found = problems_of(error, PipelineConfig, tree)
        problems += [replace(problem, location=problem.location[len(above) :]) for problem in found]
    problems.sort(key=lambda problem: document.line_of(problem.location))
    wrong = [problem for problem in problems if not problem.planned]
    if wrong:
        raise InvalidInputError(_report(document, wrong))
    return LoadedPipeline(name, config, reading.notices, [str(problem) for problem in problems])


def _report(document: Document, problems: list[Problem]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  {problem} (line {document.line_of(problem.location)})" for problem in problems]
    return "\n".join([f"{document.name}: {count}", *lines])


def resolved_yaml(config: PipelineConfig) -> str:
    """The pipeline with every default filled in, in a stable order; reading it gives an equal configuration."""
    return write_yaml(config.model_dump(mode="json"))
