"""Products by the other library: the same numbers, and only where it is exact and pays."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import toys
from atradiff import products
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.fused import FusedSAC
from atradiff.agents.sac import SAC
from atradiff.trajectory import TransitionBatch

ZEN_4 = {"cpu_name": "AMD EPYC", "avx512_f": True, "amx_tile": False}
ZEN_5 = {**ZEN_4, "avx512_vp2intersect": True}


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN for every product, on whatever processor the tests run, but for those with AMX, where it rounds."""
    if not products._is_exact():
        pytest.skip("here oneDNN rounds to bfloat16, and so is not used")
    monkeypatch.setattr(products, "faster_from", lambda: 0)


def precision() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def test_large_products_are_onednns_and_the_switch_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = precision(), list[str]()
    monkeypatch.setattr(products, "faster_from", lambda: 1_000)
    for flops in (999, 1_000):
        with products.chosen(flops):
            seen.append(precision())
    with pytest.raises(ZeroDivisionError), products.chosen(1_000):
        raise ZeroDivisionError
    assert seen == [before, "bf16"]
    assert precision() == before


def test_where_it_is_not_faster_nothing_is_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "faster_from", lambda: math.inf)
    with products.chosen(10**12):
        assert precision() != "bf16"


@pytest.mark.parametrize(
    ("processor", "flops"),
    [
        (ZEN_5, products.WIDE),
        (ZEN_4, products.NARROW),
        ({**ZEN_5, "cpu_name": "Intel(R) Xeon(R)"}, math.inf),
        ({**ZEN_5, "avx512_f": False}, math.inf),
        ({**ZEN_5, "amx_tile": True}, math.inf),
        ({"architecture": "aarch64"}, math.inf),
    ],
)
def test_only_where_mkl_leaves_a_part_of_the_processor_idle(processor: dict[str, Any], flops: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    monkeypatch.setattr(products, "_is_exact", lambda: True)
    assert products.faster_from.__wrapped__() == flops
    monkeypatch.setattr(products, "_is_exact", lambda: False)
    assert products.faster_from.__wrapped__() == math.inf


def test_bfloat16_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at a known product fails where its factors are rounded."""
    product = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: product(a.bfloat16(), b.bfloat16()).float())
    assert not products._is_exact()


@pytest.mark.usefixtures("everywhere")
def test_the_same_products() -> None:
    random = toys.generator()
    a, b, bias = (torch.randn(shape, generator=random) for shape in ((3, 40, 24), (3, 24, 56), (3, 1, 56)))
    expected = torch.einsum("emk,ekn->emn", a.double(), b.double())
    for product, result in ((products.bmm(a, b), expected), (products.baddbmm(bias, a, b), expected + bias)):
        assert torch.allclose(product.double(), result, atol=1e-4, rtol=1e-5)
    out = torch.empty(3, 56, 40).mT
    assert products.bmm(a, b, out=out) is out
    assert torch.allclose(out.double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.usefixtures("everywhere")
def test_an_agent_learns_the_same_by_either_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred updates of the fused form by oneDNN, and of the readable form by MKL."""
    config = AgentConfig(width=32, batch_size=24, utd_ratio=2, initial_temperature=0.3)
    theirs, ours = (kind(toys.SPEC, config, toys.generator()) for kind in (SAC, FusedSAC))
    random = toys.generator(2)
    for seed in range(100):
        batch = TransitionBatch(
            observation=torch.randn(48, 4, generator=random),
            action=torch.rand(48, 2, generator=random) * 2 - 1,
            reward=torch.randn(48, generator=random),
            next_observation=torch.randn(48, 4, generator=random),
            discount=torch.full((48,), 0.97),
            source=torch.ones(48, dtype=torch.uint8),
        )
        ours.update(batch, toys.generator(seed))
        with monkeypatch.context() as without:
            without.setattr(products, "faster_from", lambda: math.inf)
            theirs.update(batch, toys.generator(seed))
    assert torch.allclose(ours.critic_optimizer.flat, theirs.critic_optimizer.flat, atol=1e-5)
    assert torch.allclose(ours.actor_optimizer.flat, theirs.actor_optimizer.flat, atol=1e-5)
