from __future__ import annotations

import ast
import importlib.metadata
import re
import textwrap
from typing import Any

import pytest

from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.models.codeidentity import CodeIdentity
from modyn.models.uncaptured import first_uncaptured
from modyn.models.usercode import code_identity
from tests.helpers.code import CodeRoot

MLP = ModelSection(id="MLP", config={"in_features": 4, "num_classes": 2})


def identity(root: Any, model: ModelSection = MLP, **data: Any) -> CodeIdentity:
    return code_identity(model, DataSection(dataset_id="d", **data), None if root is None else str(root))


@pytest.fixture
def project(code_root: CodeRoot) -> Any:
    code_root.write("parsers.py", "import numpy as np\nfrom lib import tools\n\ndef parse(c):\n    return tools.f(c)\n")
    code_root.write("lib/__init__.py", "")
    code_root.write("lib/tools.py", "from . import deep\nfrom .other import g\n\ndef f(c):\n    return deep.h(g(c))\n")
    code_root.write("lib/deep.py", "import os.path\n\ndef h(c):\n    return c\n")
    code_root.write("lib/other.py", "def g(c):\n    return c\n")
    code_root.write("unrelated.py", "x = 1\n")
    return code_root


def test_built_ins_have_a_stable_digest() -> None:
    first = identity(None)
    assert first.digest is not None
    assert first == identity(None)
    assert identity(None, parser={"name": "columns"}) != first


@pytest.mark.parametrize("file", ["parsers.py", "lib/__init__.py", "lib/tools.py", "lib/deep.py", "lib/other.py"])
def test_every_transitive_import_counts(project: Any, file: str) -> None:
    before = identity(project, parser="parsers:parse")
    assert before.digest is not None
    path = project.path / file
    path.write_text(path.read_text() + "# changed\n")
    assert identity(project, parser="parsers:parse").digest not in {None, before.digest}


def test_other_files_do_not_count(project: Any) -> None:
    before = identity(project, parser="parsers:parse")
    project.write("unrelated.py", "x = 2\n")
    assert identity(project, parser="parsers:parse") == before


def test_the_folder_may_move(project: Any, tmp_path: Any) -> None:
    before = identity(project, parser="parsers:parse")
    moved = tmp_path / "elsewhere"
    project.path.rename(moved)
    assert identity(moved, parser="parsers:parse") == before


def test_models_labels_and_inline_source_count(project: Any) -> None:
    project.write("nets.py", "class Net: ...\n")
    project.write("labels.py", "def f(y):\n    return y\n")
    source = "import unrelated\ndef bytes_parser_function(data):\n    return data\n"
    digests = [
        identity(project, ModelSection(id="nets:Net")).digest,
        identity(project, label_transformer_function="labels:f").digest,
        identity(project, bytes_parser_function=source).digest,
        identity(project, bytes_parser_function=source + "#").digest,
    ]
    project.write("unrelated.py", "x = 3\n")
    digests.append(identity(project, bytes_parser_function=source).digest)
    assert None not in digests
    assert len(set(digests)) == len(digests)


def test_versions_of_installed_packages_count(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(project, parser="parsers:parse").digest
    real = importlib.metadata.distribution

    class Newer:
        def __init__(self, name: str) -> None:
            self._real = real(name)
            self.requires = self._real.requires
            self.version = "999" if name == "numpy" else self._real.version

        def read_text(self, file: str) -> str:
            return re.sub(r"(?m)^Version: .*$", f"Version: {self.version}", self._real.read_text(file) or "")

    monkeypatch.setattr(importlib.metadata, "distribution", Newer)
    assert identity(project, parser="parsers:parse").digest not in {None, before}


def test_a_module_that_hides_one_of_the_standard_library_counts(code_root: CodeRoot) -> None:
    code_root.write("mine.py", "import colorsys\n")
    before = identity(code_root, parser="mine:parse")
    code_root.write("colorsys.py", "x = 1\n")
    assert identity(code_root, parser="mine:parse") != before


def test_import_cycles_end(code_root: CodeRoot) -> None:
    code_root.write("a.py", "import b\n")
    code_root.write("b.py", "import a\n")
    assert identity(code_root, parser="a:parse").digest is not None


def test_what_cannot_be_captured_turns_reuse_off(project: Any) -> None:
    project.write("lib/deep.py", "import numpy as np\nTABLE = np.load('table.npy')\n\ndef h(c):\n    return c\n")
    found = identity(project, parser="parsers:parse")
    assert found.digest is None
    assert found.notice == ("results are not reused: lib.deep, line 2 calls np.load, and what that reads is not known")


@pytest.mark.parametrize(
    "source",
    [
        "open('f')",
        "with open('f') as f: pass",
        "Path('f').read_text()",
        "torch.load('f')",
        "pd.read_csv('f')",
        "np.fromfile('f')",
        "importlib.import_module(name)",
        "__import__('x')",
        "exec(text)",
        "eval(text)",
        "os.environ['X']",
        "os.getenv('X')",
        "Image.open(path)",
        "AutoModel.from_pretrained('x')",
        "safetensors.torch.load_file('f')",
        "b = io.BytesIO(x)\nb = path\nImage.open(b)",
    ],
)
def test_obvious_reads_are_found(source: str) -> None:
    assert first_uncaptured(ast.parse(source)) is not None


@pytest.mark.parametrize(
    "source",
    [
        "Image.open(io.BytesIO(data))",
        "buffer = BytesIO(data)\nImage.open(buffer)",
        "np.load(io.BytesIO(data))",
        "model.eval()",
        "json.loads(data)",
        "state.load(data)",
        "np.frombuffer(data)",
        "re.compile('x')",
    ],
)
def test_reads_of_memory_are_fine(source: str) -> None:
    assert first_uncaptured(ast.parse(textwrap.dedent(source))) is None
