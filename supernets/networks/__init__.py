"""Torch networks: BlockSpecs with tensors → outputs; the supernet, its slicing rule, norm calibration, checkpoints."""
