import pytest
import torch

from vis_core.nn import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_named_precision_is_taken_as_it_is(name, dtype):
    assert precision.compute_type(name, CPU) == dtype


def test_what_shows_is_rounded_only_where_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(precision, "_has_fast_bfloat16", lambda: True)
    types = [precision.exact_type(name) for name in ("auto", "fp32", "bf16", "fp16")]
    assert types == [torch.float32, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_only_where_the_cpu_is_fast_at_it(fast, dtype, monkeypatch):
    monkeypatch.setattr(precision, "_has_fast_bfloat16", lambda: fast)
    assert precision.compute_type("auto", CPU) == dtype


def test_old_versions_of_torch_that_cannot_tell_give_float32(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert precision.compute_type("auto", CPU) == torch.float32
