"""Which library multiplies matrices on a CPU: MKL, or oneDNN where MKL leaves a part of the processor idle.

MKL computes with AVX2 on processors that are not Intel's. oneDNN asks only what a processor can do. Where that is AVX-512 with units as wide
as its registers (Zen 5), its products take half the time; where units are half as wide (Zen 4), large ones take a little less. But each takes
some 13 microseconds more, whatever its size, so small ones stay with MKL. PyTorch goes from one library to the other by the precision that it
may use: `bf16` is oneDNN, which rounds to bfloat16 on processors with AMX and nowhere else. There it is left alone, and a product is tried
before it is trusted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

WIDE = 2**22
"""FLOPs of one product from which oneDNN's rate makes up for its delay, on Zen 5: at 230 against 110 GFLOP/s a core that takes 3 million, on two
cores 6."""
NARROW = 2**25
"""The same on Zen 4, where it is at 104 against 98: an update of networks of 128 units, with products of 4 to 17 million, takes a seventh to a quarter
longer with it."""

_MKL = nullcontext()


class _OneDNN(AbstractContextManager[None]):
    """PyTorch's products of float32 are oneDNN's meanwhile."""

    def __enter__(self) -> None:
        switch = cast("Any", torch.backends.mkldnn).matmul
        self._before = switch.fp32_precision
        switch.fp32_precision = "bf16"

    def __exit__(self, *error: object) -> None:
        cast("Any", torch.backends.mkldnn).matmul.fp32_precision = self._before


def chosen(flops: int) -> AbstractContextManager[None]:
    """Within it products of about so many FLOPs each go to the library that is faster at them; the numbers are float32's either way."""
    return _OneDNN() if flops >= faster_from() else _MKL


def bmm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """`torch.bmm` of `[E, M, K]` and `[E, K, N]` by the faster library."""
    with chosen(_flops(a, b)):
        return torch.bmm(a, b, out=out)


def baddbmm(bias: Tensor, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """`torch.baddbmm` of `[E, 1, N]`, `[E, M, K]` and `[E, K, N]` by the faster library."""
    with chosen(_flops(a, b)):
        return torch.baddbmm(bias, a, b, out=out)


def largest(parameters: Iterable[Tensor]) -> int:
    """FLOPs, for each row of a batch, of the product with the largest of a network's weights."""
    return 2 * max((p.numel() for p in parameters), default=0)


def _flops(a: Tensor, b: Tensor) -> int:
    return 2 * a.numel() * b.shape[-1]


@functools.cache
def faster_from() -> float:
    """FLOPs of one product from which oneDNN is faster; infinite where it never is, is not there or is not as exact."""
    if not (hasattr(torch.cpu, "get_capabilities") and hasattr(torch.backends.mkldnn, "matmul") and torch.backends.mkldnn.is_available()):
        return math.inf  # an older PyTorch
    processor = torch.cpu.get_capabilities()
    if "AMD" not in str(processor.get("cpu_name")) or not processor.get("avx512_f") or processor.get("amx_tile") or not _is_exact():
        return math.inf
    return WIDE if processor.get("avx512_vp2intersect") else NARROW  # which of AMD's only Zen 5 and later have


def _is_exact() -> bool:
    """Whether oneDNN's products keep the bits that bfloat16 would lose: 1 + 2^-16 is 1 there."""
    a = torch.full((1, 256, 256), 1 + 2.0**-16)
    with _OneDNN():
        return bool((torch.bmm(a, a) > 256 * (1 + 2.0**-16)).all())
