"""Models as differences: the same bytes come back, whatever they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.digests import digest_bytes
from modyn.storage.model_deltas import (
    BLOCK_BYTES,
    WIDTHS,
    DamagedDeltaError,
    DeltaDescription,
    describe,
    is_intact,
    read_delta,
    write_delta,
)

OTHERS = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}
SPECIAL = {
    "F32": np.array([0x7FC00000, 0xFFC00001, 0x7F800000, 0xFF800000, 0x80000000, 0, 1, 0x80000001, 0x3F800000], "<u4"),
    "F16": np.array([0x7E00, 0xFC00, 0x8000, 0, 1, 0x3C00], "<u2"),
    "BF16": np.array([0x7FC0, 0xFF80, 0x8000, 0, 1, 0x3F80], "<u2"),
    "F64": np.array([0x7FF8 << 48, 0xFFF0 << 48, 1 << 63, 0, 1], "<u8"),
}


def safetensors(tensors: dict[str, tuple[str, bytes]], align: int = 8) -> bytes:
    """A file with flat tensors of some type and content, in this order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, content) in tensors.items():
        width = {**WIDTHS, **OTHERS}[dtype]
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": [len(content) // width], "data_offsets": offsets}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % align)
    return len(text).to_bytes(8, "little") + text + data


def round_trip(folder: Path, old: bytes, new: bytes) -> bytes | None:
    """What comes back; None: it is no smaller as a difference, or cannot be one."""
    base, model, delta = folder / "base", folder / "model", folder / "delta"
    base.write_bytes(old)
    model.write_bytes(new)
    description = DeltaDescription(digest_bytes(old), digest_bytes(new), len(new), 3)
    if not write_delta(delta, base=base, model=model, description=description):
        return None
    assert describe(delta) == description
    assert is_intact(delta)
    assert delta.stat().st_size < len(new)
    return b"".join(read_delta(delta, base))


@st.composite
def _models(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two files with the same tensors; some values differ a lot, some a little, most not at all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = draw(st.lists(st.sampled_from(sorted({**WIDTHS, **OTHERS})), max_size=6))
    old: dict[str, tuple[str, bytes]] = {"many zeros": ("F32", bytes(1024))}
    new = dict(old)
    for index, kind in enumerate(kinds):
        width = {**WIDTHS, **OTHERS}[kind]
        before = rng.integers(0, 256, size=draw(st.integers(0, 300)) * width, dtype=np.uint8)
        after = before.copy()
        if draw(st.booleans()):
            after[:: draw(st.integers(1, 9))] += rng.integers(0, 3, dtype=np.uint8)
        if (special := SPECIAL.get(kind)) is not None and len(after) >= special.nbytes:
            after[: special.nbytes] = special.view(np.uint8)
            before[: special.nbytes] = rng.permutation(special).view(np.uint8)
        old[f"t{index}"], new[f"t{index}"] = (kind, before.tobytes()), (kind, after.tobytes())
    return safetensors(old), safetensors(new)


@settings(max_examples=60, deadline=None)
@given(_models())
def test_the_same_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, models: tuple[bytes, bytes]) -> None:
    old, new = models
    folder = tmp_path_factory.mktemp("deltas")
    assert round_trip(folder, old, new) in (new, None)
    assert round_trip(folder, old, old) == old, "a model that did not change has a small difference"


@pytest.mark.parametrize("kind", sorted(SPECIAL))
def test_special_floats_and_blocks(tmp_path: Path, kind: str) -> None:
    """More than one block, every special value against every other one, and a small step everywhere else."""
    special = SPECIAL[kind]
    pairs = np.stack(np.meshgrid(special, special)).reshape(2, -1)
    count = BLOCK_BYTES // special.itemsize + 1000
    weights = np.random.default_rng(0).normal(size=count).astype("<f8" if kind == "F64" else "<f4")
    if kind in ("F16", "BF16"):
        before = (weights.view("<u4") >> 16).astype("<u2")
    else:
        before = weights.view(special.dtype).copy()
    after = before + special.dtype.type(5)
    before[: pairs.shape[1]], after[: pairs.shape[1]] = pairs
    old, new = (safetensors({"w": (kind, values.tobytes())}) for values in (before, after))
    assert round_trip(tmp_path, old, new) == new
    assert (tmp_path / "delta").stat().st_size < len(new) / 10


@pytest.mark.parametrize(
    "other",
    [
        b"no safetensors",
        b"",
        safetensors({"w": ("F16", bytes(4000))}),
        safetensors({"v": ("F32", bytes(4000))}),
        safetensors({"w": ("F32", bytes(4004))}),
    ],
)
def test_models_of_another_layout_have_no_difference(tmp_path: Path, other: bytes) -> None:
    model = safetensors({"w": ("F32", bytes(4000))})
    assert round_trip(tmp_path, other, model) is None
    assert round_trip(tmp_path, model, other) is None


def test_a_base_that_is_not_what_it_should_be_is_not_used(tmp_path: Path) -> None:
    old, new = (safetensors({"w": ("F32", value * 4000)}) for value in (b"a", b"b"))
    (tmp_path / "base").write_bytes(old)
    (tmp_path / "model").write_bytes(new)
    description = DeltaDescription("0" * 40, digest_bytes(new), len(new), 1)
    target = tmp_path / "delta"
    assert not write_delta(target, base=tmp_path / "base", model=tmp_path / "model", description=description)


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=300).astype("<f4")
    old, new = (safetensors({"w": ("F32", (before + step).tobytes())}) for step in (0, np.float32(1e-3)))
    assert round_trip(tmp_path, old, new) == new
    path = tmp_path / "delta"
    whole = path.read_bytes()
    for position in [*range(0, len(whole), 7), len(whole) - 1]:
        for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]):
            path.write_bytes(damaged)
            assert not is_intact(path)
            try:
                restored = b"".join(read_delta(path, tmp_path / "base"))
            except DamagedDeltaError:
                continue
            assert digest_bytes(restored) != digest_bytes(new) or position >= len(whole) - 16 or restored == new
