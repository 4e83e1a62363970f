"""Built-in models by id: one import line per plug-in. Nothing here imports torch until a model is built."""

from modyn.models.zoo import dummy, mlp, resnet, small_cnn, tabular_mlp, text_classifier, yearbook

__all__ = ["dummy", "mlp", "resnet", "small_cnn", "tabular_mlp", "text_classifier", "yearbook"]
