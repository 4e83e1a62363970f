"""The user's own Python: ``module:attribute`` references, inline source, and what a server allows.

A reference names something importable: an installed package anywhere, and on servers that allow user code also a
module in the pipeline's own folder (the *code root*). Inline source defines one function. Both run in jobs only.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from modyn.core.config.inline import is_reference
from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.errors import InvalidInputError, ModynError, NotAllowedError
from modyn.models.codeidentity import CodeIdentity, OwnCode, identity_of, own_code_of

__all__ = [
    "CodeIdentity",
    "OwnCode",
    "check_allowed",
    "code_identity",
    "compile_function",
    "describe_error",
    "load_attribute",
    "load_function",
    "own_code",
]


def load_attribute(reference: str, root: str | None) -> Any:
    """Imports what a ``module:attribute`` reference names.

    Args:
        reference: such as ``my_models.vision:TinyNet``.
        root: folder put first on ``sys.path``, or None for installed packages only.

    Raises:
        InvalidInputError: no such module or attribute, or importing it fails.
    """
    reference = reference.strip()
    if not is_reference(reference):
        raise InvalidInputError(f"{reference!r} is no reference; expected module:attribute, such as my_models:TinyNet")
    module_name, _, attribute = reference.partition(":")
    value: Any = _import(module_name, reference, root)
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise InvalidInputError(
                f"{reference!r}: module {module_name!r} has no attribute {attribute!r}; "
                "check the spelling, and that it is defined at the top level of the module"
            )
        value = getattr(value, part)
    return value


def _import(name: str, reference: str, root: str | None) -> ModuleType:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        # Nothing in there is a model or a parser, and much of it does harm when called.
        raise InvalidInputError(f"{reference!r}: {top!r} is a module of the Python standard library; name your own")
    if root is not None:
        _put_first_on_path(root, top, reference)
    try:
        return importlib.import_module(name)
    except ModynError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            where = f"the folder {root} or installed packages" if root else "installed packages"
            raise InvalidInputError(f"{reference!r}: no module named {error.name!r} in {where}") from error
        raise InvalidInputError(f"{reference!r}: importing {name!r} failed: {error}; install it first") from error
    except Exception as error:
        raise InvalidInputError(f"{reference!r}: importing {name!r} failed: {describe_error(error)}") from error


def _put_first_on_path(root: str, top: str, reference: str) -> None:
    folder = str(Path(root).absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()  # the module's file may be younger than this process's view of the folder
    loaded = sys.modules.get(top)
    shadowed = (Path(folder) / top).is_dir() or (Path(folder) / f"{top}.py").is_file()
    origin = getattr(loaded, "__file__", None)
    if shadowed and origin is not None and not Path(origin).is_relative_to(folder):
        raise InvalidInputError(
            f"{reference!r}: a module named {top!r} in {folder} hides an installed one ({origin}); rename yours"
        )


def compile_function(source: str, name: str, key: str) -> Callable[..., Any]:
    """Runs inline source and returns the function of the given name that it defines.

    Args:
        source: Python source text.
        name: the function it must define.
        key: the YAML key it comes from, for messages.

    Raises:
        InvalidInputError: it does not compile, raises, or defines no such function.
    """
    namespace: dict[str, Any] = {"__name__": f"<{key}>"}
    try:
        exec(compile(source, f"<{key}>", "exec"), namespace)  # noqa: S102 - only where the server allows user code
    except SyntaxError as error:
        raise InvalidInputError(f"{key}: line {error.lineno}: {error.msg}; expected Python source") from error
    except Exception as error:
        raise InvalidInputError(f"{key}: its source failed: {describe_error(error)}") from error
    function = namespace.get(name)
    if not callable(function):
        raise InvalidInputError(f"{key}: its source defines no function named {name!r}; expected `def {name}(...):`")
    return function  # type: ignore[no-any-return]


def load_function(text: str, key: str, root: str | None) -> Callable[..., Any]:
    """A function from a ``module:attribute`` reference or from inline source that defines the key's last part."""
    if is_reference(text):
        function = load_attribute(text, root)
        if not callable(function):
            raise InvalidInputError(f"{key}: {text!r} is a {type(function).__name__}; expected a function")
        return function  # type: ignore[no-any-return]
    return compile_function(text, key.rpartition(".")[2], key)


def describe_error(error: BaseException) -> str:
    """One line that says what user code raised and where.

    >>> try:
    ...     int("x")
    ... except ValueError as error:
    ...     print(describe_error(error).split(" (")[0])
    ValueError: invalid literal for int() with base 10: 'x'
    """
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen importlib")
    ]
    if not frames or isinstance(error, SyntaxError):  # a syntax error says itself where it is
        return text
    frame = frames[-1]
    return f"{text} (line {frame.lineno} of {Path(frame.filename).name}, in {frame.name})"


def check_allowed(data: DataSection, code_root: str | None, *, allow_user_code: bool) -> None:
    """Refuses inline code and code roots where the server was not started with them allowed.

    References to installed packages, in ``model.id`` too, are always allowed: whoever installed them trusts them.

    Raises:
        NotAllowedError: names the first key at fault.
    """
    if allow_user_code:
        return
    remedy = "install the code as a package on the server and name it as module:attribute, or run the pipeline embedded"
    if code_root is not None:
        raise NotAllowedError(f"this server imports no code from a client's folder ({code_root}); {remedy}")
    sources = {
        "data.bytes_parser_function": data.bytes_parser_function or "",
        "data.label_transformer_function": data.label_transformer_function,
    }
    for key, text in sources.items():
        if text.strip() and not is_reference(text):
            raise NotAllowedError(f"{key}: this server runs no inline Python; {remedy}")
    if not all(is_reference(text) for text in data.transformations):
        raise NotAllowedError(f"data.transformations: this server runs no inline Python; {remedy}")


def code_identity(
    model: ModelSection | None,
    data: DataSection,
    root: str | None,
    models: Iterable[ModelSection] = (),
    plugins: Iterable[type] = (),
    *,
    functions: Mapping[str, str] | None = None,
) -> CodeIdentity:
    """What code a training or evaluation would run, as a digest that changes whenever that code does.

    Built-in models and parsers count with this package's version, user code with its source and that of every
    module it imports from the same folder, other packages with their installed version.

    Args:
        model: of a training; None: evaluations find it by its digest.
        data: how samples become inputs.
        root: folder that user code may be imported from, or None.
        models: those that are trained beside it.
        plugins: classes that run in the job.
        functions: further references, by YAML key: the step, callbacks and learning-rate schedule of a training.

    Returns:
        digest None, with a notice that says why, when the code reads what cannot be captured (files, environment,
        dynamic imports): results must then not be reused.
    """
    references: list[str] = []
    inline: dict[str, str] = {}
    for key, text in _user_code(model, data).items():
        if is_reference(text):
            references.append(text.strip())
        else:
            inline[key] = text
    references += [_reference_of(other) for other in models]
    references += [text.strip() for text in (functions or {}).values()]
    references += [f"{plugin.__module__}:{plugin.__qualname__}" for plugin in plugins]
    return identity_of(references, inline, root)


_TRANSFORMERS = "transformers:DistilBertTokenizerFast"
"""What the published tokenizer is; it counts with the version of its package."""


def own_code(model: ModelSection, data: DataSection, root: str | None) -> OwnCode:
    """The user's own files that a model and its parser consist of, with all that they import.

    Args:
        model: its ``id``.
        data: how samples become inputs.
        root: folder that user code may be imported from, or None.
    """
    code = _user_code(model, data)
    references = [text.strip() for text in code.values() if is_reference(text)]
    inline = {key: text for key, text in code.items() if not is_reference(text)}
    return own_code_of(references, inline, root)


def _user_code(model: ModelSection | None, data: DataSection) -> dict[str, str]:
    """All references and inline sources, by YAML key."""
    found: dict[str, str] = {}
    if model is not None:
        found["model.id"] = _reference_of(model)
    if isinstance(data.parser, str):
        found["data.parser"] = data.parser
    elif data.parser is not None:
        found["data.parser"] = f"{type(data.parser).__module__}:{type(data.parser).__qualname__}"
    found["data.bytes_parser_function"] = data.bytes_parser_function or ""
    found["data.label_transformer_function"] = data.label_transformer_function
    if data.tokenizer is not None:
        found["data.tokenizer"] = data.tokenizer if is_reference(data.tokenizer) else _TRANSFORMERS
    for position, text in enumerate(data.transformations):
        # with the scope in which the decoder evaluates it
        scope = "" if is_reference(text) else "from torchvision import transforms\n"
        found[f"data.transformations[{position}]"] = scope + text
    return {key: text for key, text in found.items() if text.strip()}


def _reference_of(model: ModelSection) -> str:
    return model.id if is_reference(model.id) else _zoo_reference(model.id)


def _zoo_reference(name: str) -> str:
    from modyn.core.plugins.models import MODELS

    if name not in MODELS.names():
        return ""  # whoever builds it says so
    cls = MODELS.get(name)
    return f"{cls.__module__}:{cls.__qualname__}"
