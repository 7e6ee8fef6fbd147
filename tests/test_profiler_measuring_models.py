from __future__ import annotations

import io

import pytest

from profiler.measuring import models
from profiler.measuring.models import LazyModels, default_model_maker
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
BLOCKS = TINY.blocks(TINY.smallest())


def counted(sizes):
    made = []

    def maker(name):
        made.append(name)
        return bytes(sizes[name])

    return made, LazyModels({name: lambda name=name: maker(name) for name in sizes})


def test_a_model_is_made_at_its_first_use_and_once():
    made, lazy = counted({"a": 3, "b": 5})
    assert (set(lazy), len(lazy), "a" in lazy, "c" in lazy) == ({"a", "b"}, 2, True, False)
    assert made == []
    assert (lazy["b"], lazy["b"]) == (bytes(5), bytes(5))
    assert made == ["b"]


def test_models_above_the_limit_are_made_again_and_not_kept(monkeypatch):
    monkeypatch.setattr(models, "KEPT_BYTES", 10)
    made, lazy = counted({"a": 8, "b": 5, "c": 2})
    for _ in range(2):
        assert [len(lazy[name]) for name in "abc"] == [8, 5, 2]
    assert made == ["a", "b", "c", "b"]


def test_an_onnx_file_of_blocks_has_the_batch_and_is_always_the_same():
    onnx = pytest.importorskip("onnx")
    maker = default_model_maker("onnx", batch=2)
    model = maker(BLOCKS[2:4])
    shape = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape
    assert [side.dim_value for side in shape.dim] == [2, BLOCKS[2].in_channels, BLOCKS[2].input_side, BLOCKS[2].input_side]
    assert maker(BLOCKS[2:4]) == model


def test_a_tflite_file_of_blocks_is_one():
    pytest.importorskip("ai_edge_litert")
    assert default_model_maker("tflite")(BLOCKS[:2])[4:8] == b"TFL3"


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="model format 'pt' is unknown in precision float32; expected one of onnx, tflite, torch"):
        default_model_maker("pt")
    with pytest.raises(ValueError, match="model format 'torch' is unknown in precision int8; expected one of onnx, tflite"):
        default_model_maker("torch", precision="int8")
    with pytest.raises(ValueError, match="precision 'int4' is unknown; expected one of float32, float16, bfloat16, int8"):
        default_model_maker("onnx", precision="int4")


def test_an_exported_program_has_the_batch_asked_for():
    torch = pytest.importorskip("torch")
    program = torch.export.load(io.BytesIO(default_model_maker("torch", batch=2)(BLOCKS[2:4])))
    (given,) = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in program.graph_signature.user_inputs]
    assert list(given.meta["val"].shape) == [2, BLOCKS[2].in_channels, BLOCKS[2].input_side, BLOCKS[2].input_side]


@pytest.mark.parametrize(("model_format", "package"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert")])
def test_a_condition_of_int8_gets_int8_models_and_one_of_float16_float_ones(model_format, package):
    pytest.importorskip(package)
    plain, half, integers = (default_model_maker(model_format, precision=precision)(BLOCKS) for precision in ("float32", "float16", "int8"))
    assert half == plain
    assert len(integers) < 0.6 * len(plain)
    assert default_model_maker(model_format, precision="int8")(BLOCKS) == integers
