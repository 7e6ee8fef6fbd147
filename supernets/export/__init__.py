"""Files of blocks and networks for runtimes: ONNX and TFLite graphs written straight from BlockSpecs and folded weights.

The graph writers and the weights need numpy and their format's package only; torch is for the pipeline around them.
"""
