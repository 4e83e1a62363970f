"""From columns of a batch to tensors: the built-in or the user's parser, and what transforms follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from modyn.core.config.pipeline import DataSection
from modyn.core.draws import Draws
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.parsers import Parser
from modyn.models.parsers.columns import ColumnsParser
from modyn.models.parsers.payload import Columns, is_binary, is_numeric
from modyn.models.persample import Transforms, per_sample
from modyn.models.seeding import seeded
from modyn.models.tensors import batch_of, label_tensor
from modyn.models.tokenizing import Tokenizing
from modyn.models.usercode import describe_error, load_function

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from modyn.models.tensors import Tensors


class Decoder:
    """Decodes batches as the ``data`` section says.

    A training passes ``draws`` and the number of the batch, and so gets augmented samples::

        decoder.inputs(columns, Draws(seed, trigger, epoch, keys), batch)

    An evaluation passes neither, and gets them as they are. What comes out depends on (seed, trigger, epoch, key) for
    built-in parsers, and on (seed, trigger, epoch, batch) for user code, never on what was decoded before:

    * ``parses_batches``: no user code sees inputs or labels, and no sample sees another. A chunk of many batches may be
      decoded by one call, in any thread; the rows of each batch are bit for bit what a call for it would give.
    * otherwise each batch is decoded by a call of its own, in the thread that trains (user code may draw from the
      global generators, which are put back afterwards) or by :class:`modyn.models.workers.ParserPool`.
    * ``per_sample``: Python runs for each sample, which ``training.dataloader_workers`` processes of a pool can share.

    Args:
        data: its parser, tokenizer, transformations and label transformer are used.
        root: folder that user code may be imported from, or None.

    Raises:
        InvalidInputError: a parser or function cannot be loaded.
        NotAvailableError: something needed is not installed.
    """

    def __init__(self, data: DataSection, root: str | None) -> None:
        if data.parser is not None and data.bytes_parser_function:
            raise InvalidInputError("data.parser and data.bytes_parser_function are both set; keep one")
        self._tokenizer = None if data.tokenizer is None else Tokenizing(data.tokenizer, root)
        self._transforms = Transforms(data.transformations, root) if data.transformations else None
        self._label_function = (
            load_function(data.label_transformer_function, "data.label_transformer_function", root)
            if data.label_transformer_function.strip()
            else None
        )
        self._parser = data.parser if isinstance(data.parser, Parser) else None
        self._name, self._user_parser = _user_parser(data, root)
        self.per_sample = data.per_sample
        """Whether Python runs for each sample: a pool of processes makes it faster."""
        self.parses_batches = (
            not self.per_sample
            and self._user_parser is None
            and self._label_function is None
            and (self._parser is None or self._parser.separable)
        )
        """Whether chunks of many batches may be decoded at once, in a thread, and cut apart afterwards."""
        self.repeatable = self.parses_batches and not (self._parser is not None and self._parser.augments)
        """Whether a chunk gives the same inputs in every epoch, so that they may be kept."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Payload columns that have to be read; empty: all."""
        return self._parser.reads() if self._parser is not None else ()

    def inputs(self, columns: Columns, draws: Draws | None = None, batch: int | None = None) -> Tensors:
        """Model inputs of one batch.

        Args:
            columns: payload columns by name, each of length n.
            draws: for a training: random numbers for the n samples; None: nothing is augmented.
            batch: its number in the epoch; with it and ``draws``, what user code draws is a function of the batch.

        Returns:
            A tensor [n, …], or several by name. float64 becomes float32, as models expect.

        Raises:
            InvalidInputError: the columns do not suit the parser, or user code raised.
            NotAvailableError: something needed is not installed.
        """
        count = len(next(iter(columns.values())))
        with self._seeded(draws, batch):
            with self._blamed(self._name):
                parsed = self._parsed(columns, draws)
            if self._tokenizer is not None:
                with self._blamed(self._tokenizer.name):
                    parsed = self._tokenizer(parsed)
            if self._transforms is not None:
                with self._blamed("data.transformations"):
                    parsed = self._transformed(parsed, count)
        return batch_of(parsed, count, self._name)

    def labels(self, labels: pa.Array, draws: Draws | None = None, batch: int | None = None) -> torch.Tensor:
        """Labels of one batch (no nulls): int64 [n], float32 [n], or [n, k] for lists of equal length k.

        Args:
            labels: of the n samples.
            draws: as for :meth:`inputs`.
            batch: as for :meth:`inputs`.

        Raises:
            InvalidInputError: labels that are no numbers, or the user's label function raised.
        """
        tensor = label_tensor(labels)
        if self._label_function is None:
            return tensor
        with self._seeded(draws, batch), self._blamed("data.label_transformer_function"):
            transformed = self._label_function(tensor)
        result = batch_of(transformed, len(labels), "data.label_transformer_function")
        if isinstance(result, dict):
            raise InvalidInputError("data.label_transformer_function returned a mapping; expected one tensor")
        return result

    def _parsed(self, columns: Columns, draws: Draws | None) -> Any:
        if self._user_parser is not None:
            return self._user_parser(columns)
        if self._parser is None and self._tokenizer is not None:
            return self._tokenizer.texts_of(columns)
        parser = self._parser or default_parser(columns)
        return parser.parse(columns) if draws is None else parser.parse_augmented(columns, draws)

    def _transformed(self, parsed: Any, count: int) -> list[Any]:
        assert self._transforms is not None
        if isinstance(parsed, dict):  # of several inputs: a sample is a mapping, too
            samples = [{key: part[row] for key, part in parsed.items()} for row in range(count)]
            return [self._transforms(sample) for sample in samples]
        return [self._transforms(sample) for sample in parsed]

    def _seeded(self, draws: Draws | None, batch: int | None) -> AbstractContextManager[None]:
        if self.parses_batches or draws is None or batch is None:
            return nullcontext()
        return seeded(draws, batch)

    @contextmanager
    def _blamed(self, name: str) -> Iterator[None]:
        try:
            yield
        except ModynError:
            raise
        except Exception as error:
            raise InvalidInputError(f"{name} raised {describe_error(error)}") from error


def _user_parser(data: DataSection, root: str | None) -> tuple[str, Callable[..., Any] | None]:
    """What parses, for messages, and the user's function of a batch if that is it."""
    if isinstance(data.parser, str):
        return f"data.parser {data.parser!r}", load_function(data.parser, "data.parser", root)
    if data.parser is not None:
        return f"data.parser {data.parser.plugin_name!r}", None
    if data.bytes_parser_function:
        name = "data.bytes_parser_function"
        return name, per_sample(load_function(data.bytes_parser_function, name, root))
    return "the default parser", None


def default_parser(columns: Columns) -> Parser:
    """The parser of a pipeline that names none: numeric columns, in stored order.

    Raises:
        InvalidInputError: the payload is something else.
    """
    if columns and all(is_numeric(array.type) for array in columns.values()):
        return ColumnsParser()
    if any(is_binary(array.type) for array in columns.values()):
        hint = "samples are bytes: set data.parser to {name: image, …}, {name: numeric_record, …} or module:function"
    else:
        odd = [name for name, array in columns.items() if not is_numeric(array.type)]
        hint = (
            f"no numbers in {', '.join(odd)}: set data.parser to {{name: columns, columns: […]}}, {{name: text, …}} or "
            "module:function"
        )
    payload = ", ".join(f"{name}: {array.type}" for name, array in columns.items())
    raise InvalidInputError(f"data.parser is not set and the payload ({payload}) has no default parser; {hint}")
