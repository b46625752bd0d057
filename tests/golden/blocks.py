"""Blocks of each quantised GGUF format from seeded bytes, and what the `gguf` package reads in them."""

import gguf
import numpy
import torch

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
BLOCKS = 6
# Where a block has its scales and minima, two bytes each.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip


def blocks_golden() -> tuple[dict, dict]:
    """Random bytes but for the halves, which random bits would make infinite now and then."""
    values = {}
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        per_block, size = gguf.GGML_QUANT_SIZES[kind]
        chance = numpy.random.default_rng(len(values))
        data = chance.integers(0, 256, (BLOCKS, size), dtype=numpy.uint8)
        for at in HALVES[name]:
            halves = chance.normal(0, 0.1, (BLOCKS, 1)).astype(numpy.float16)
            data[:, at : at + 2] = halves.view(numpy.uint8)
        read = gguf.quants.dequantize(data, kind).reshape(BLOCKS, per_block)
        values[f"{name}.bytes"] = torch.from_numpy(data)
        values[f"{name}.values"] = torch.from_numpy(read)
    return {"types": {name: int(gguf.GGMLQuantizationType[name]) for name in FORMATS}}, values
