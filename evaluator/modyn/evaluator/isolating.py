"""Finding the samples that cannot be handled among many that can: by halving, with bounded work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from modyn.core.errors import CancelledError, ModynError, NotAvailableError, UnavailableError
from modyn.core.out_of_memory import out_of_memory

T = TypeVar("T")

MAX_FAILURES = 1_024
"""Attempts that may fail before nothing is halved any more. A bad sample among 256 takes nine."""


@dataclass(frozen=True)
class Stretch(Generic[T]):
    """Some neighbours that fared alike.

    Attributes:
        start, end: the positions are ``start … end - 1``.
        value: what was made of them, if it could be.
        error: why it could not be; None: it could.
    """

    start: int
    end: int
    value: T | None
    error: ModynError | None


class Isolation:
    """Halves what fails until single samples fail, or too many attempts did."""

    def __init__(self, max_failures: int = MAX_FAILURES) -> None:
        self._left = max_failures
        self._worked = False

    @property
    def is_hopeless(self) -> bool:
        """Nothing worked, ever, and all attempts that may fail have."""
        return self._left <= 0 and not self._worked

    def worked(self) -> None:
        """Something did elsewhere."""
        self._worked = True

    def stretches(self, start: int, end: int, attempt: Callable[[int, int], T]) -> Iterator[Stretch[T]]:
        """Tries ``start … end - 1``, in parts where the whole fails; ascending.

        Args:
            attempt: called with a start and an end; raises if a sample between them is bad.

        Raises:
            ModynError: an error that is not about samples, as ``attempt`` raised it.
        """
        try:
            value = attempt(start, end)
        except ModynError as error:
            if not is_about_samples(error):
                raise
            self._left -= 1
            if end - start == 1 or self._left <= 0:
                yield Stretch(start, end, None, error)
                return
        else:
            self._worked = True
            yield Stretch(start, end, value, None)
            return
        middle = (start + end) // 2
        yield from self.stretches(start, middle, attempt)
        yield from self.stretches(middle, end, attempt)


def is_about_samples(error: ModynError) -> bool:
    """Whether other samples may not have the same error."""
    return not isinstance(error, NotAvailableError | UnavailableError | CancelledError) and out_of_memory(error) is None
