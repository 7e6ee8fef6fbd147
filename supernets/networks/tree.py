"""A torch module that holds tensors under dotted names, so that `state_dict()` keys are the names the rest of the code uses."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def hold(module: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None) -> None:
    """Register tensors in `module` under their dotted names, each part a sub-module of its own."""
    for name, tensor in parameters.items():
        _parent(module, name).register_parameter(name.rpartition(".")[2], nn.Parameter(tensor))
    for name, tensor in (buffers or {}).items():
        _parent(module, name).register_buffer(name.rpartition(".")[2], tensor)


def held(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer of `module` by dotted name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _parent(module: nn.Module, name: str) -> nn.Module:
    for part in name.split(".")[:-1]:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    return module
