"""Streams without drift, whose samples depend on each other."""

from __future__ import annotations

import numpy as np
from scipy import signal

from modyn.core.plugins.triggers import Features


def autoregressive(samples: int, features: int, phi: float, seed: object) -> Features:
    """Independent columns ``x_t = phi x_{t-1} + noise`` of variance 1, float32 [samples, features]."""
    noise = np.random.default_rng(seed).normal(size=(samples + 200, features))  # type: ignore[arg-type]
    filtered = signal.lfilter([np.sqrt(1 - phi**2)], [1, -phi], noise, axis=0)
    return np.asarray(filtered[200:], dtype=np.float32)


def seasonal(stream: Features, period: int = 48, start: int = 0) -> Features:
    """With a season of variance 1, of another phase in each column."""
    time = np.arange(start, start + len(stream))[:, None]
    phases = 0.7 * np.arange(stream.shape[1])
    return np.asarray(stream + np.sqrt(2) * np.sin(2 * np.pi * time / period + phases), dtype=np.float32)
