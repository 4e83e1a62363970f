"""The ``data`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from modyn.core.config.inline import is_reference
from modyn.core.config.sections import BytesParser, LabelTransformer, Section, Transformation
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.core.plugins.parsers import PARSERS, Parser

PUBLISHED_TOKENIZERS = ("DistilBertTokenizerTransform",)


class DataSection(Section):
    """The dataset, and how its samples become model inputs."""

    dataset_id: str = Field(min_length=1, max_length=200, description="Name of the dataset.")
    source: Annotated[SourceFormat, FORMATS.field()] | None = Field(
        None, description="Folder of files to ingest the dataset from; not needed if it exists or is appended to."
    )
    parser: Annotated[Parser, PARSERS.field()] | str | None = Field(
        None,
        description="A built-in parser, or module:attribute of a function of a batch (mapping of payload column "
        "names to Arrow arrays) that returns model inputs. By default numeric columns in their order.",
    )
    bytes_parser_function: BytesParser | None = Field(
        None,
        description="Inline Python that defines bytes_parser_function(data), or module:attribute: makes a model "
        "input of one sample's bytes. Slower than a parser, which sees whole batches.",
    )
    transformations: list[Transformation] = Field(
        [],
        description="Applied to each parsed sample in turn: torchvision transforms as Python expressions, or "
        "module:attribute of a callable.",
    )
    label_transformer_function: LabelTransformer = Field(
        "",
        description="Inline Python that defines label_transformer_function(labels), or module:attribute: a function "
        "of a tensor of labels.",
    )
    tokenizer: str | None = Field(
        None,
        description="Applied to the texts that the parser returns (without a parser: to the only column of text), "
        "before transformations: DistilBertTokenizerTransform, from the package transformers and files that are on the "
        "server already, or module:attribute of a function of a list of texts that returns ids. The parser text needs "
        "none.",
    )

    @property
    def per_sample(self) -> bool:
        """Whether functions of single samples are called."""
        return bool(self.bytes_parser_function or self.transformations or self.tokenizer)

    @field_validator("parser")
    @classmethod
    def _check_reference(cls, parser: Parser | str | None) -> Parser | str | None:
        if isinstance(parser, str) and not is_reference(parser):
            names = ", ".join(PARSERS.names())
            raise ValueError(f"expected module:attribute, or a mapping with the key 'name' (one of {names})")
        return parser

    @field_validator("bytes_parser_function")
    @classmethod
    def _check_one_parser(cls, function: str | None, info: ValidationInfo) -> str | None:
        if function is not None and info.data.get("parser") is not None:
            raise ValueError("give either parser or bytes_parser_function, not both")
        return function

    @field_validator("tokenizer")
    @classmethod
    def _check_tokenizer(cls, tokenizer: str | None, info: ValidationInfo) -> str | None:
        if tokenizer is None:
            return None
        if tokenizer not in PUBLISHED_TOKENIZERS and not is_reference(tokenizer):
            raise ValueError(f"expected {', '.join(PUBLISHED_TOKENIZERS)}, or module:attribute of your own")
        parser = info.data.get("parser")
        if isinstance(parser, Parser):
            raise ValueError(
                f"expected no tokenizer with the parser {parser.plugin_name!r}, which returns numbers; leave out one "
                "of them"
            )
        return tokenizer
