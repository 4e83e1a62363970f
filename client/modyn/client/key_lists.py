"""Keys as people write them: ``1,2,5-9``, or in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet

TEXT_SUFFIXES = ("", ".txt", ".keys")
"""Files with keys and ranges; others are tables with the column ``key``."""


LARGEST = 1 << 62
"""No dataset has so many samples."""


def parse_keys(text: str, what: str) -> KeySet:
    """Keys and ranges (both ends included) between commas or white space, in any order, each once.

    >>> parse_keys("7, 1,2 5-9", "--keys").ranges
    (KeyRange(start=1, end=3), KeyRange(start=5, end=10))

    Args:
        what: names the text in messages.

    Raises:
        InvalidInputError: something in it is neither.
    """
    words = text.replace(",", " ").split()
    pairs = [word.split("-") for word in words if "-" in word]
    singles = [word for word in words if "-" not in word]
    try:
        firsts = np.array(singles + [first for first, _ in pairs], dtype=np.int64)
        lasts = np.array(singles + [last for _, last in pairs], dtype=np.int64)
        if len(lasts) and int(lasts.max()) >= LARGEST:
            raise OverflowError
    except (ValueError, OverflowError):
        raise InvalidInputError(f"{what}: {_wrong(words)!r} is no key and no range; expected such as 1,2,5-9") from None
    if (lasts < firsts).any():
        at = int(np.argmax(lasts < firsts))
        raise InvalidInputError(f"{what}: the range {firsts[at]}-{lasts[at]} ends before it starts")
    return _merged(firsts, lasts) if pairs else KeySet.from_array(np.unique(firsts))


def read_keys(path: Path) -> KeySet:
    """Keys in a file: a text as of :func:`parse_keys`, or a table with the column ``key``.

    Raises:
        InvalidInputError: the file cannot be read, or holds something else.
    """
    if path.suffix.lower() in TEXT_SUFFIXES:
        try:
            return parse_keys(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{path}: the file is no UTF-8 text; expected keys such as 1,2,5-9") from error
        except OSError as error:
            raise InvalidInputError(f"{path}: cannot read the file: {error.strerror}") from error
    from modyn.client.datasets import key_set
    from modyn.client.tabular import read_table

    table = read_table(path)
    if "key" not in table.column_names:
        raise InvalidInputError(f"{path}: no column is named `key`; there are {', '.join(table.column_names)}")
    try:
        keys = key_set(table["key"].combine_chunks()).to_array()
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: column `key`: {error.message}") from error
    return KeySet.from_array(np.unique(keys))


def _wrong(words: list[str]) -> str:
    """The first word that is neither a key nor a range."""
    for word in words:
        ends = word.split("-")
        if len(ends) > 2 or not all(end.isdecimal() and int(end) < LARGEST for end in ends):
            return word
    return words[0]


def _merged(firsts: Int64Array, lasts: Int64Array) -> KeySet:
    """Ranges in order, those that overlap or touch joined."""
    order = np.argsort(firsts, kind="stable")
    starts, ends = firsts[order], np.maximum.accumulate(lasts[order]) + 1
    if len(starts) == 0:
        return KeySet.from_ranges([])
    new = np.concatenate(([True], starts[1:] > ends[:-1]))
    last = np.concatenate((new[1:], [True]))
    merged = map(KeyRange, starts[new].tolist(), ends[last].tolist())
    return KeySet.from_ranges(merged)
