"""Which models get Liger's kernels; their results were compared in Triton's interpreter."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from common.config.learner import LearnerSettings
from learner import families, liger
from learner import model as model_module


@pytest.fixture
def patched(monkeypatch):
    """The models that an imitation of the package was applied to, with what was asked of it."""
    calls = []
    module = ModuleType("liger_kernel.transformers.monkey_patch")
    module._apply_liger_kernel_to_instance = lambda **kwargs: calls.append(kwargs)
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(liger.importlib.util, "find_spec", lambda name: object())
    return calls


def model_of(family: str) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(model_type=family))


def test_a_compared_family_keeps_its_own_loss(patched):
    assert liger.fuse(model_of("qwen3"))
    (call,) = patched
    assert call["fused_linear_cross_entropy"] is False


def test_a_family_that_was_not_compared_stays_as_it_is(patched):
    assert not liger.fuse(model_of("gemma2"))
    assert patched == []
    assert families.SUPPORTED >= liger.FAMILIES


def test_without_the_package_nothing_changes(monkeypatch):
    monkeypatch.setattr(liger.importlib.util, "find_spec", lambda name: None)
    assert not liger.fuse(model_of("qwen3"))


@pytest.mark.parametrize(
    ("device", "compiled", "expected"),
    [("cuda", False, ["liger"]), ("cuda", True, []), ("cpu", False, ["norms"])],
    ids=["on a GPU", "compiled", "on a CPU"],
)
def test_each_device_has_its_own_kernels(tiny_llama, monkeypatch, device, compiled, expected):
    used = []
    monkeypatch.setattr(model_module.liger, "fuse", lambda model: used.append("liger"))
    monkeypatch.setattr(model_module.norms, "fuse", lambda model: used.append("norms"))
    settings = LearnerSettings(device=device, dtype="float32", compile=compiled)
    model_module.load_reference(tiny_llama, settings)
    assert used == expected
