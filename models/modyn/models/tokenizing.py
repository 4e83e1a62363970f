"""``data.tokenizer``: the published system's tokenizer, or the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modyn.core.config.inline import is_reference
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.models.parsers.payload import Columns
from modyn.models.parsers.ragged import text_column
from modyn.models.usercode import describe_error, load_attribute

MODEL = "distilbert-base-uncased"
VOCABULARY_SIZE = 30_522
"""Of that model. Without its files, newer versions of ``transformers`` silently give a tokenizer that knows no word."""

MAX_TOKENS = 300
"""Of the published tokenizer; shorter texts are padded to it, longer ones cut."""


class Tokenizing:
    """Makes model inputs of texts.

    Args:
        tokenizer: ``DistilBertTokenizerTransform``, or ``module:attribute`` of a function of a list of texts; of a
            class, an object is made without arguments and called.
        root: folder that user code may be imported from, or None.

    Raises:
        InvalidInputError: it cannot be loaded, or is no function.
        NotAvailableError: it needs a package or files that are not on this machine.
    """

    def __init__(self, tokenizer: str, root: str | None) -> None:
        self.name = f"data.tokenizer {tokenizer!r}"
        self._function = _loaded(tokenizer, root) if is_reference(tokenizer) else distilbert()

    def __call__(self, texts: Any) -> Any:
        """What the tokenizer returns for a batch of texts, whatever the parser put them in."""
        return self._function(self._listed(texts))

    def texts_of(self, columns: Columns) -> pa.Array:
        """The texts where there is no parser: the only column of text or UTF-8 bytes."""
        return text_column(columns, None, "data.tokenizer without a parser")[1]

    def _listed(self, texts: Any) -> list[str]:
        if isinstance(texts, pa.Array | pa.ChunkedArray):
            texts = texts.to_pylist()
        elif isinstance(texts, np.ndarray):
            texts = texts.tolist()
        if not isinstance(texts, list | tuple):
            raise InvalidInputError(
                f"{self.name}: the parser returned a {type(texts).__name__}; expected a list of texts"
            )
        odd = [text for text in texts if not isinstance(text, str)]
        if odd:
            raise InvalidInputError(
                f"{self.name}: the parser returned a {type(odd[0]).__name__} for a sample; expected text (str)"
            )
        return list(texts)


def _loaded(reference: str, root: str | None) -> Callable[[list[str]], Any]:
    function = load_attribute(reference, root)
    if isinstance(function, type):
        try:
            function = function()
        except Exception as error:
            raise InvalidInputError(f"data.tokenizer {reference!r} cannot be made: {describe_error(error)}") from error
    if not callable(function):
        raise InvalidInputError(f"data.tokenizer {reference!r} is a {type(function).__name__}; expected a function")
    return function  # type: ignore[no-any-return]


def distilbert() -> Callable[[Sequence[str]], Any]:
    """The tokenizer of DistilBERT (uncased) of the package ``transformers``, from files that are on this machine.

    Returns:
        A function of n texts that gives int64 [n, 300, 2]: ids and attention mask.

    Raises:
        NotAvailableError: the package or its files are not there.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise NotAvailableError(
            "data.tokenizer: DistilBertTokenizerTransform needs the package transformers, which is not installed; "
            "install it, use the parser {name: text}, or name a tokenizer of your own as module:attribute"
        ) from error
    remedy = (
        f"put the files of {MODEL} into the cache of transformers once (hf download {MODEL}), or set HF_HOME to where "
        "they are; nothing is downloaded here"
    )
    try:
        tokenizer = transformers.DistilBertTokenizerFast.from_pretrained(MODEL, local_files_only=True)
    except (OSError, ValueError) as error:
        raise NotAvailableError(
            f"data.tokenizer: DistilBertTokenizerTransform cannot be read ({error}); {remedy}"
        ) from error
    if tokenizer.vocab_size != VOCABULARY_SIZE:
        raise NotAvailableError(
            f"data.tokenizer: DistilBertTokenizerTransform has {tokenizer.vocab_size} tokens on this machine; expected "
            f"{VOCABULARY_SIZE}; {remedy}"
        )

    def tokenize(texts: Sequence[str]) -> Any:
        encoded = tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="np"
        )
        return np.stack([encoded["input_ids"], encoded["attention_mask"]], axis=2).astype(np.int64, copy=False)

    return tokenize
