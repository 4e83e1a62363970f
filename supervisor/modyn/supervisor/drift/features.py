"""The features of two windows, made comparable without looking at which window a sample lies in."""

from __future__ import annotations

import numpy as np

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.triggers import Features


def check_windows(reference: Features, current: Features) -> tuple[Features, Features]:
    """The windows as float32 [n, d] and [m, d].

    Raises:
        InvalidInputError: they are empty, have different columns, or hold NaN or infinity.
    """
    reference, current = (np.asarray(window, dtype=np.float32) for window in (reference, current))
    for name, window in (("reference", reference), ("current", current)):
        if window.ndim != 2 or 0 in window.shape:
            raise InvalidInputError(f"{name} window has shape {window.shape}; expected [samples, features], both >= 1")
        if not np.isfinite(window).all():
            row, column = np.argwhere(~np.isfinite(window))[0]
            raise InvalidInputError(
                f"{name} window: feature {column} of sample {row} is {window[row, column]}; expected finite numbers; "
                "fill in missing values in the parser, or leave the column out"
            )
    if reference.shape[1] != current.shape[1]:
        raise InvalidInputError(
            f"the reference window has {reference.shape[1]} features and the current one {current.shape[1]}; "
            "expected the same number"
        )
    return reference, current


def standardized(pooled: Features, *, centered: bool = True) -> Features:
    """Columns with the mean and the standard deviation of both windows together taken out.

    A constant column becomes 0, or stays as it is if it is not centred.

    Args:
        pooled: float32 [n, d].
        centered: whether the mean is taken out too.

    Returns:
        float32 [n, d].
    """
    mean = pooled.mean(axis=0, dtype=np.float64)
    exact = pooled - mean  # in float64: a large mean must not eat the digits of a small deviation
    scale = np.sqrt(np.mean(exact * exact, axis=0))
    varies = scale > 1e-7 * np.abs(mean)  # below that it is float32 rounding
    scale = np.where(varies, scale, 1.0)
    if not centered:
        return np.asarray(pooled / scale, dtype=np.float32)
    return np.asarray(np.where(varies, exact / scale, 0.0), dtype=np.float32)


def principal_components(pooled: Features, number: int | None) -> Features:
    """Coordinates along the directions of largest variance of both windows together.

    Args:
        pooled: float32 [n, d].
        number: how many, at most d are used; None to leave the features as they are.

    Returns:
        float32 [n, min(number, d)].
    """
    if number is None:
        return pooled
    exact = pooled - pooled.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(exact.T @ exact)
    return np.asarray(exact @ directions[:, ::-1][:, :number], dtype=np.float32)
