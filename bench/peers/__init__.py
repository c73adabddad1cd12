"""Whom fastrnn is compared with: a file for each, with a class `Peer` as `peers.base` describes it."""

# In the order of the tables; `fastrnn` is measured as the others are.
PEERS = (
    "fastrnn",
    "torch",
    "torch_padded",
    "onednn",
    "onnxruntime",
    "openvino",
    "ncnn",
    "mnn",
    "litert",
    "tract",
    "executorch",
    "jax",
    "thinc",
    "numba",
    "cython",
    "numpy",
)
