"""The runtimes: each says what it is, computes the model, and fails in one sentence; those of other packages are shipped too."""

from __future__ import annotations

import gc
import io
import json
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

from device_agents import archive
from device_agents.base import DeviceError, VisitPlan
from device_agents.local import LocalAgent
from device_agents.on_device.inputs import dequantized, quantized, random_input
from device_agents.on_device.runtime_litert import LiteRuntime
from device_agents.on_device.runtime_torch import require_plain_program
from device_agents.on_device.runtimes import RUNTIMES, RuntimeNotInstalled, runtime_class

# runtime → package to import, writer of its models, what it applies to them
INSTALLABLE = {
    "onnxruntime": ("onnxruntime", "onnx_graph:onnx_model", "CPUExecutionProvider"),
    "litert": ("ai_edge_litert", "tflite_graph:tflite_model", "xnnpack"),
    "torch": ("torch", "torch_program:torch_model", "eager"),
    "openvino": ("openvino", "onnx_graph:onnx_model", "CPU"),
}


def model_of(name: str, block: str = "small") -> bytes:
    """Return a pointwise block as a model of this runtime's format; skips where the runtime is not installed."""
    package, target, _ = INSTALLABLE[name]
    pytest.importorskip(package)
    module, _, function = target.partition(":")
    writer = getattr(__import__(f"supernets.export.{module}", fromlist=[function]), function)
    return writer([pointwise_block(block)], pointwise_weights(block))


def loaded(name, tmp_path):
    """Return the small pointwise block loaded into a runtime."""
    path = tmp_path / "model"
    path.write_bytes(model_of(name))
    runtime = runtime_class(name)(1)
    return runtime, runtime.load(str(path))


class TestOpenVino(AgentContract):
    @pytest.fixture
    def agent(self):
        pytest.importorskip("openvino")
        return LocalAgent(runtime="openvino")

    @pytest.fixture
    def models(self):
        return {block: model_of("openvino", block) for block in ("small", "large")}


def test_a_worker_times_exported_programs():
    with LocalAgent(runtime="torch") as agent:
        (visit,) = agent.measure({"m": model_of("torch")}, [VisitPlan("p", ("m",), cycles=3, warmup_cycles=1)])
        assert visit.samples_ns.shape == (1, 3)
        assert agent.info().extra["preflight"]["build_sha256"], "the library in use is known"


@pytest.mark.parametrize("name", INSTALLABLE)
def test_runtime_says_what_it_is_and_what_it_applied(name, tmp_path):
    runtime, session = loaded(name, tmp_path)
    assert (runtime.name, runtime.package) == (name, INSTALLABLE[name][0])
    assert runtime.version[0].isdigit()
    assert session.delegate == runtime.delegate == INSTALLABLE[name][2]
    assert session.input_shapes == [[1, 8, 8, 8]]
    assert session.input_dtypes == ["float32"]


@pytest.mark.parametrize("name", INSTALLABLE)
def test_all_runtimes_compute_the_same(name, tmp_path):
    images = np.random.default_rng(2).standard_normal((1, 8, 8, 8), dtype=np.float32)
    weights, block = pointwise_weights("small"), pointwise_block("small")
    pre = np.einsum("oi,nihw->nohw", weights[f"{block.name}.conv.weight"][:, :, 0, 0], images) + weights[f"{block.name}.conv.bias"][:, None, None]
    expected = {"relu": np.maximum(pre, 0), "none": pre}[block.activation]
    _, session = loaded(name, tmp_path)
    channels_last = runtime_class(name).model_format == "tflite"
    output = session.infer(np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if channels_last else images)
    np.testing.assert_allclose(output.transpose(0, 3, 1, 2) if channels_last else output, expected, atol=1e-5)


def test_runs_of_onnxruntime_compute_the_model_on_its_random_input(tmp_path):
    _, session = loaded("onnxruntime", tmp_path)
    gc.collect()
    session.run()
    outputs = session.run.args[0].get_outputs()[0].numpy()
    np.testing.assert_array_equal(outputs, session.infer(random_input([1, 8, 8, 8], "float32")))


def test_runs_of_openvino_compute_the_model_on_its_random_input(tmp_path):
    _, session = loaded("openvino", tmp_path)
    gc.collect()
    session.run()
    request = session.run.__self__
    np.testing.assert_array_equal(request.get_output_tensor(0).data, session.infer(random_input([1, 8, 8, 8], "float32")))


def test_runs_of_litert_keep_their_random_input(tmp_path):
    _, session = loaded("litert", tmp_path)
    for _ in range(3):
        session.run()
    interpreter = session.run.__self__
    np.testing.assert_array_equal(interpreter.get_tensor(interpreter.get_input_details()[0]["index"]), random_input([1, 8, 8, 8], "float32"))


def test_litert_without_xnnpack_is_an_error(tmp_path, monkeypatch):
    litert = pytest.importorskip("ai_edge_litert.interpreter")

    def plain(**settings):
        return litert.Interpreter(experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, **settings)

    monkeypatch.setattr(LiteRuntime, "_package", lambda self: ("2", plain))
    with pytest.raises(RuntimeError, match="XNNPACK took no part of the model"):
        loaded("litert", tmp_path)


def test_a_model_that_xnnpack_takes_in_part_is_an_error_that_names_its_operators(tmp_path):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    from supernets.export.tflite_graph import FILE_IDENTIFIER

    model = schema.ModelT.InitFromPackedBuf(model_of("litert"))
    (graph,) = model.subgraphs
    graph.tensors.append(schema.TensorT(name="output2", shape=graph.tensors[graph.outputs[0]].shape, type=schema.TensorType.FLOAT32, buffer=0))
    code = schema.BuiltinOperator.COS
    model.operatorCodes.append(schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1))
    last = len(graph.tensors) - 1
    graph.operators.append(schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=[graph.outputs[0]], outputs=[last]))
    graph.outputs = [last]
    flip = schema.BuiltinOperator.REVERSE_V2  # no kernel of XNNPACK's
    model.operatorCodes[-1].builtinCode = model.operatorCodes[-1].deprecatedBuiltinCode = flip
    axis = np.array([1], np.int32)
    model.buffers.append(schema.BufferT(data=np.frombuffer(axis.tobytes(), np.uint8)))
    graph.tensors.append(schema.TensorT(name="axis", shape=[1], type=schema.TensorType.INT32, buffer=len(model.buffers) - 1))
    graph.operators[-1].inputs = [graph.operators[-1].inputs[0], len(graph.tensors) - 1]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    path = tmp_path / "model"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(RuntimeError, match="XNNPACK took only parts of the model.*REVERSE_V2"):
        runtime_class("litert")(1).load(str(path))


def test_int8_numbers_stand_for_the_nearest_real_ones():
    values = np.array([-9.0, -1.0, 0.0, 0.24, 0.26, 1.0, 99.0], np.float32)
    stored = quantized(values, 0.5, 3)
    assert stored.dtype == np.int8
    assert stored.tolist() == [-15, 1, 3, 3, 4, 5, 127]
    assert dequantized(stored, 0.5, 3).tolist() == [-9.0, -1.0, 0.0, 0.0, 0.5, 1.0, 62.0]


# --- what is missing ------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_package(monkeypatch):
    """Make tflite_runtime installed."""
    package, interpreter = types.ModuleType("tflite_runtime"), types.ModuleType("tflite_runtime.interpreter")
    package.__version__, interpreter.Interpreter = "2.14.0", object
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)


def test_tflite_runtime_goes_by_its_own_name(old_package, monkeypatch):
    monkeypatch.setattr(np, "__version__", "1.26.4")
    runtime = runtime_class("tflite-runtime")(1)
    assert (runtime.name, runtime.package, runtime.version, runtime.model_format) == ("tflite-runtime", "tflite_runtime", "2.14.0", "tflite")


def test_tflite_runtime_never_takes_litert_s_place(old_package, monkeypatch):
    monkeypatch.setattr(np, "__version__", "1.26.4")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(RuntimeNotInstalled, match="needs the package 'ai-edge-litert'"):
        runtime_class("litert")(1)


def test_tflite_runtime_beside_a_numpy_it_cannot_use_is_an_error(old_package, monkeypatch):
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(RuntimeError, match=r"tflite_runtime 2\.14\.0 does not run with numpy 2\.4\.6; use the runtime litert"):
        runtime_class("tflite-runtime")(1)


@pytest.mark.parametrize(
    ("name", "module", "cure"),
    [
        ("onnxruntime", "onnxruntime", r"pip install onnxruntime or pip install 'elastic-latency\[onnx\]'"),
        ("litert", "ai_edge_litert", r"pip install ai-edge-litert or pip install 'elastic-latency\[litert\]'"),
        ("tflite-runtime", "tflite_runtime", "pip install tflite-runtime 'numpy<2'$"),
        ("torch", "torch", r"pip install torch or pip install 'elastic-latency\[train\]'"),
        ("openvino", "openvino", r"pip install openvino or pip install 'elastic-latency\[openvino\]'"),
    ],
)
def test_missing_package_is_named_with_the_command_that_brings_it(name, module, cure, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeNotInstalled, match=f"needs the package '{module.replace('_', '-')}'.*{cure}"):
        runtime_class(name)(1)


# --- exported programs ----------------------------------------------------------------------------------------------------


def altered(content: bytes, name: str, data: bytes) -> bytes:
    """Return the exported program with one file of it replaced or added."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        files = {known: old.read(known) for known in old.namelist()} | {f"archive/{name}": data}
        for known, stored in files.items():
            new.writestr(known, stored)
    return packed.getvalue()


def test_exported_programs_that_would_run_code_of_the_file_are_refused():
    torch = pytest.importorskip("torch")
    import pickle

    content = model_of("torch")
    require_plain_program(torch, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archived:
        weights = json.loads(archived.read("archive/data/weights/model_weights_config.json"))
        graph = archived.read("archive/models/model.json")
    next(iter(weights["config"].values()))["use_pickle"] = True
    refused = {
        "data/weights/model_weights_config.json": json.dumps(weights).encode(),
        "data/weights/model.pt": pickle.dumps(print),
        "data/constants/custom_obj_0": b"x",
        "data/aotinductor/model/model.so": b"x",
        "models/model.json": graph.replace(b'"as_int"', b'"expr_str"', 1),
    }
    for name, data in refused.items():
        with pytest.raises(ValueError, match="expected an exported program of tensors and a graph of fixed shapes only"):
            require_plain_program(torch, altered(content, name, data))
    unsafe = io.BytesIO()
    torch.save((types.SimpleNamespace(),), unsafe)
    for broken in (altered(content, "data/sample_inputs/model.pt", unsafe.getvalue()), b"no zip", content[:-200]):
        with pytest.raises(ValueError, match="is not a plain exported program"):
            require_plain_program(torch, broken)


# --- plug-ins -------------------------------------------------------------------------------------------------------------

SOURCE = """
from device_agents.on_device.inputs import random_input
from device_agents.on_device.runtimes import Session


class Doubling:
    model_format = "onnx"
    name, package, version, delegate = "doubling", "", "7", "none"

    def __init__(self, threads):
        import numpy

        self.numpy = numpy

    def load(self, path):
        fixed = random_input([1, 4], "float32")
        return Session(lambda: fixed * 2, lambda batch: batch * 2, [[1, 4]], ["float32"], self.delegate)
"""


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Give a maker of an installed distribution: its modules, and what it says in the entry-point group."""

    def make(points: dict[str, str], modules: dict[str, str]) -> Path:
        site = tmp_path / "site"
        information = site / "further_runtimes-1.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: further-runtimes\nVersion: 1\n")
        lines = [f"{name} = {target}\n" for name, target in points.items()]
        (information / "entry_points.txt").write_text("[elastic_latency.runtimes]\n" + "".join(lines))
        for module, text in modules.items():
            path = site / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(str(site))
        return site

    return make


def test_a_runtime_of_another_package_is_listed_shipped_and_run_in_the_worker(distribution):
    # the package around it must not be imported by a device, and is imported here only when its runtime is asked for
    distribution({"doubling": "further_package.doubling:Doubling"}, {"further_package/__init__": "", "further_package/doubling": SOURCE})
    with pytest.raises(ValueError, match=f"known runtimes: {', '.join(RUNTIMES)}, doubling$"):
        runtime_class("tensorrt")
    assert "further_package" not in sys.modules
    with LocalAgent(runtime="doubling") as agent:
        assert (agent.info().runtime, agent.info().runtime_version, agent.model_format) == ("doubling", "7", "onnx")
        (visit,) = agent.measure({"m": b"any"}, [VisitPlan("p", ("m",), cycles=3)])
        assert visit.samples_ns.shape == (1, 3)
        np.testing.assert_array_equal(agent.run(b"any", np.ones((2, 4), np.float32)), np.full((2, 4), 2, np.float32))


def test_a_plug_in_is_one_file_of_the_archive_and_nothing_else_of_its_package(distribution):
    distribution({"doubling": "further_other.doubling:Doubling"}, {"further_other/__init__": "raise SystemExit", "further_other/doubling": SOURCE})
    with zipfile.ZipFile(io.BytesIO(archive.pack())) as packed:
        names = [name for name in packed.namelist() if "plug_in_" in name]
        assert names == ["device_agents/on_device/plug_in_further_other_doubling.py"]
        assert packed.read(names[0]).decode() == SOURCE


def test_a_plug_in_that_imports_its_own_package_is_told_apart_on_the_device(distribution):
    text = SOURCE.replace("import numpy\n", "from further_third import inner as numpy\n")
    distribution(
        {"doubling": "further_third.doubling:Doubling"}, {"further_third/__init__": "", "further_third/doubling": text, "further_third/inner": ""}
    )
    with pytest.raises(DeviceError, match="No module named 'further_third'"):
        LocalAgent(runtime="doubling").info()


def test_plug_ins_that_cannot_be_used_say_why_and_hinder_no_other(distribution):
    broken = {
        "absent": "further_absent.module:Runtime",
        "classless": "further_fourth:Nothing",
        "formless": "further_fourth:Formless",
        "onnxruntime": "further_fourth:Formless",
    }
    distribution(broken, {"further_fourth": "class Formless:\n    model_format = 'coreml'\n"})
    with pytest.raises(
        ValueError, match=r"runtime 'absent' is a plug-in whose class 'further_absent.module:Runtime' cannot be imported: No module named"
    ):
        runtime_class("absent")
    with pytest.raises(ValueError, match="runtime 'classless' is a plug-in whose class .* cannot be imported: .* has no attribute 'Nothing'"):
        runtime_class("classless")
    with pytest.raises(ValueError, match="runtime 'formless' is a plug-in whose model_format is 'coreml'; expected one of onnx, tflite, torch"):
        runtime_class("formless")
    assert runtime_class("onnxruntime").__module__ == "device_agents.on_device.runtime_onnxruntime"
    assert LocalAgent(runtime="echo").info().runtime == "echo"
