"""PyTorch on the CPU, running exported programs (`torch.export`) operator by operator: what eager PyTorch takes.

An exported program is a zip file; PyTorch would unpickle or run parts that it may hold, so that a file holding more than
plain tensors and a graph is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from functools import partial
from typing import Any

from .inputs import fixed_shape, random_input
from .runtimes import ModelFormat, Session, not_installed

SAMPLE_INPUTS = "data/sample_inputs/model.pt"
GRAPH = "models/model.json"
TENSOR_LISTS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
PLAIN = re.compile(
    r"(data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|\.data/version|byteorder|\.data/serialization_id)"
)


class TorchRuntime:
    """Runs exported programs of one input, without gradients."""

    model_format: ModelFormat = "torch"
    name = package = "torch"
    delegate = "eager"

    def __init__(self, threads: int) -> None:
        try:
            import torch
        except ImportError as error:
            raise not_installed("running exported programs", "torch", "train", error) from error
        torch.set_num_threads(threads)
        self._torch = torch
        self.version = str(torch.__version__)

    def load(self, path: str) -> Session:
        """Return the program of this file.

        Raises:
            ValueError: the file holds more than tensors and a graph.
        """
        torch = self._torch
        with open(path, "rb") as file:
            content = file.read()
        require_plain_program(torch, content)
        program = torch.export.load(io.BytesIO(content))
        names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
        values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
        shapes = [fixed_shape(name, list(value.shape)) for name, value in zip(names, values)]  # noqa: B905 - `strict` came with Python 3.10
        dtypes = [str(value.dtype).rpartition(".")[2] for value in values]
        inputs = [torch.from_numpy(random_input(shape, dtype)) for shape, dtype in zip(shapes, dtypes)]  # noqa: B905
        module = program.module()
        return Session(partial(_run, torch, module, inputs), partial(_infer, torch, module, len(inputs)), shapes, dtypes, self.delegate)


def require_plain_program(torch: Any, content: bytes) -> None:
    """Do nothing where an exported program is tensors and a graph of fixed shapes, which PyTorch loads without running anything of the file.

    Raises:
        ValueError: it is no such file, or holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        lists = [json.loads(files[name])["config"].values() for name in TENSOR_LISTS]
        pickled = [tensor["path_name"] for tensors in lists for tensor in tensors if tensor["use_pickle"]]
        torch.load(io.BytesIO(files[SAMPLE_INPUTS]), weights_only=True)
    except Exception as error:
        raise ValueError(f"the model is not a plain exported program ({type(error).__name__}: {error}); export it again") from error
    unknown = [name for name in files if name not in (SAMPLE_INPUTS, GRAPH, *TENSOR_LISTS) and not PLAIN.fullmatch(name)]
    if pickled or unknown or b"expr_str" in files[GRAPH]:
        found = ", ".join([*pickled, *unknown]) or "symbolic shapes"
        raise ValueError(f"the model holds {found}; expected an exported program of tensors and a graph of fixed shapes only")


def _run(torch: Any, module: Any, inputs: list[Any]) -> None:
    with torch.inference_mode():
        module(*inputs)


def _infer(torch: Any, module: Any, inputs: int, batch: Any) -> Any:
    if inputs != 1:
        raise ValueError(f"the model has {inputs} inputs; expected one")
    with torch.inference_mode():
        return module(torch.from_numpy(batch)).numpy()
