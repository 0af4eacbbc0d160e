"""What computes the features of images: torch as it is, compiled, OpenVINO, or ONNX Runtime.

Every engine is the same network without its last linear layer. That layer, which holds temperature,
priors and closed classes, is always computed by torch in fp32: an engine decides on speed alone.
"""
