"""Which library multiplies matrices on a CPU: MKL, or oneDNN where MKL leaves half of the processor idle.

MKL computes with AVX2 on processors that are not Intel's. oneDNN asks only what a processor can do, and where that is AVX-512 its products
take half the time; but each takes some 13 microseconds more, whatever its size, so small ones stay with MKL. PyTorch goes from one library to
the other by the precision that it may use: `bf16` is oneDNN, which rounds to bfloat16 on processors with AMX and nowhere else. There it is
left alone, and a product is tried before it is trusted.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

LARGE = 2**22
"""FLOPs of one product from which oneDNN's rate makes up for its delay: at 230 against 110 GFLOP/s a core that takes 3 million, on two cores 6."""

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
    return _OneDNN() if flops >= LARGE and onednn_is_faster() else _MKL


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
def onednn_is_faster() -> bool:
    """Whether MKL computes with less than this processor has, and oneDNN is there and as exact."""
    if not (hasattr(torch.cpu, "get_capabilities") and hasattr(torch.backends.mkldnn, "matmul") and torch.backends.mkldnn.is_available()):
        return False  # an older PyTorch
    processor = torch.cpu.get_capabilities()
    if "AMD" not in str(processor.get("cpu_name")) or not processor.get("avx512_f") or processor.get("amx_tile"):
        return False
    return _is_exact()


def _is_exact() -> bool:
    """Whether oneDNN's products keep the bits that bfloat16 would lose: 1 + 2^-16 is 1 there."""
    a = torch.full((1, 256, 256), 1 + 2.0**-16)
    with _OneDNN():
        return bool((torch.bmm(a, a) > 256 * (1 + 2.0**-16)).all())
