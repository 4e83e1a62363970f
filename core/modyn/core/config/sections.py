"""What all sections of the pipeline YAML share: their base class and the types of recurring values."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from modyn.core.config.inline import check_expression, check_function
from modyn.core.config.published import Described


class Section(Described):
    """Base of all sections of the pipeline YAML."""


def _check_device(value: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d+)?", value) is None:
        raise ValueError("expected cpu, cuda or cuda:N")
    return value


Device = Annotated[
    str, AfterValidator(_check_device), WithJsonSchema({"type": "string", "pattern": r"^(cpu|cuda|cuda:\d+)$"})
]
"""Where to compute."""


def _zero_for_none(value: Any) -> Any:
    return 0 if value is None else value


Seed = Annotated[
    int,
    Field(ge=0, lt=2**63),
    BeforeValidator(_zero_for_none),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}),
]
"""0 <= seed < 2**63; null is 0, because a run must be repeatable."""


def _text_for_integer(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ModelReference = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(_text_for_integer),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]
"""A stored model; the published system used integers."""


def _bytes_parser(text: str) -> str:
    return check_function(text, "bytes_parser_function")


def _label_transformer(text: str) -> str:
    return check_function(text, "label_transformer_function") if text.strip() else ""


BytesParser = Annotated[str, AfterValidator(_bytes_parser)]
LabelTransformer = Annotated[str, AfterValidator(_label_transformer)]
Transformation = Annotated[str, AfterValidator(check_expression)]
