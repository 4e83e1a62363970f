"""Keys of the published metrics that belonged to the libraries behind them."""

from __future__ import annotations

LIBRARY_KEYS = {
    "p_val": "HypothesisTestCriterion has the false-alarm rate, alpha",
    "x_ref_preprocessed": "both windows hold features of the same model",
    "preprocessor": "features come from the model or from columns; the trigger's key `features` says which",
    "device": "drift is measured on the CPU",
}

EMBEDDING_KEYS = {
    "bootstrap": "HypothesisTestCriterion permutes instead",
    "quantile_probability": "HypothesisTestCriterion has the false-alarm rate, alpha",
    "threshold": "the decision criterion has the threshold",
}
