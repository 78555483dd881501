"""Real ranks (gloo): results do not depend on ranks, sharding, packing or micro-batches."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tests.tiny import make_student

pytestmark = [pytest.mark.slow, pytest.mark.one_core]

SCRIPT = Path(__file__).with_name("ranks.py")
ROOT = SCRIPT.parents[2]
MATRIX = {
    f"{stage}-{'packed' if pack else 'single'}-{micro}": {
        "zero_stage": stage,
        "pack": pack,
        "micro_batch": micro,
    }
    for stage, pack, micro in product((0, 2, 3), (False, True), (1, 4))
}
REFERENCE = "0-single-1"
# The matrix for a divergence from a frozen copy on each rank, in part.
DISTILLED = {f"distilled-{name}": MATRIX[name] for name in (REFERENCE, "0-packed-4", "3-packed-1")}
# Adapters, whose teacher is the model without them, and at stage 3 a copy.
ADAPTED = {
    f"adapted-{name}": {**MATRIX[name], "lora": {"rank": 4}}
    for name in (REFERENCE, "2-packed-4", "3-packed-1")
}


def run(model: Path, out: Path, ranks: int, cases: list[dict]) -> None:
    """Run ``cases`` one after another in ``ranks`` processes."""
    out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(model), str(out), json.dumps(cases)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "RANK": str(rank),
                "LOCAL_RANK": "0",
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "DS_ACCELERATOR": "cpu",
                "OMP_NUM_THREADS": "1",
                "TORCH_EXTENSIONS_DIR": str(out / "compiled"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)


def assert_equal(ours: Path, reference: Path, weight_tolerance: float = 1e-5) -> None:
    """Losses, norms and weights of two cases agree."""
    from safetensors.torch import load_file

    for step, expected in zip(
        json.loads(ours.with_suffix(".json").read_text()),
        json.loads(reference.with_suffix(".json").read_text()),
        strict=True,
    ):
        assert step == pytest.approx(expected, rel=1e-5)
    weights = load_file(ours.with_suffix(".safetensors"))
    expected_weights = load_file(reference.with_suffix(".safetensors"))
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        difference = (weight - expected_weights[name]).norm() / expected_weights[name].norm()
        assert float(difference) <= weight_tolerance, (name, float(difference))


@pytest.fixture(scope="module")
def matrix(tiny_llama, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("matrix")
    # A divergence's gradient is a difference of log-probabilities. Near −ln 64 float32 rounds these
    # by 2e-7 nats. With weights of deviation 0.02, teacher and student differ by 0.04 nats (the
    # JSD, 2e-4, is about an eighth of the variance), so this rounding alone is 1e-5 of a gradient
    # whose size Adam does not see. With 0.1 they differ by 0.2 nats and more.
    peaked = make_student(tmp_path_factory.mktemp("models") / "peaked", scale=0.1)
    cases = [{"name": name, "settings": settings, "steps": 10} for name, settings in MATRIX.items()]
    poisoned = [
        {
            "name": f"poisoned-{stage}-{dtype}",
            "settings": {"zero_stage": stage, "dtype": dtype},
            "steps": 3,
            "poison": 2,
        }
        for stage, dtype in product((0, 1, 2, 3), ("float32", "bfloat16"))
    ]
    clean = [
        {"name": f"two-{dtype}", "settings": {"zero_stage": 0, "dtype": dtype}, "steps": 2}
        for dtype in ("float32", "bfloat16")
    ]
    cases += [
        {"name": name, "settings": settings, "steps": 10, "distilled": True, "model": str(peaked)}
        for name, settings in (DISTILLED | ADAPTED).items()
    ]
    run(tiny_llama, out / "1", 1, cases)
    run(tiny_llama, out / "2", 2, [*cases, *clean, *poisoned])
    return out


def test_training_lowers_the_loss_of_the_reference(matrix):
    results = json.loads((matrix / "1" / f"{REFERENCE}.json").read_text())
    assert results[-1][0] < results[0][0] - 0.1


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_nothing_is_compiled_on_cpu(matrix, ranks):
    assert not (matrix / ranks / "compiled").exists()


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("name", MATRIX)
def test_ten_steps_equal_one_unsharded_rank_without_packing(matrix, ranks, name):
    assert_equal(matrix / ranks / name, matrix / "1" / REFERENCE)


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("name", DISTILLED)
def test_ten_steps_towards_a_teacher_equal_one_unsharded_rank_without_packing(matrix, ranks, name):
    # The weights are five times those of the other cases, their updates are not.
    assert_equal(matrix / ranks / name, matrix / "1" / f"distilled-{REFERENCE}", 2e-6)


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("name", ADAPTED)
def test_so_do_ten_steps_of_adapters(matrix, ranks, name):
    # One factor of each adapter begins at zero: what it becomes in ten steps is small.
    assert_equal(matrix / ranks / name, matrix / "1" / f"adapted-{REFERENCE}", 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_nan_on_one_rank_skips_the_step_on_all(matrix, stage, dtype):
    from safetensors.torch import load_file

    name = f"poisoned-{stage}-{dtype}"
    norms = [norm for _, norm in json.loads((matrix / "2" / f"{name}.json").read_text())]
    assert [math.isfinite(norm) for norm in norms] == [True, False, True]
    found = load_file(matrix / "2" / f"{name}.safetensors")
    expected = load_file(matrix / "2" / f"two-{dtype}.safetensors")
    tolerance = 1e-5 if dtype == "float32" else 1e-3
    for key, weight in found.items():
        difference = weight.float() - expected[key].float()
        assert float(difference.norm() / expected[key].float().norm()) <= tolerance, key


@pytest.fixture(scope="module")
def resharded(tiny_llama, tmp_path_factory) -> Path:
    """Nine steps: three on two ranks at stage 3, three on one, three on two at stage 2."""
    out = tmp_path_factory.mktemp("resharded")
    first, second = str(out / "first"), str(out / "second")
    common = {"average": 0.9}
    at = {stage: {**common, "zero_stage": stage} for stage in (0, 2, 3)}
    run(
        tiny_llama,
        out,
        2,
        [
            {"name": "three", "settings": at[3], "steps": 3, "save": first},
            {"name": "six", "settings": at[3], "steps": 6, "save": str(out / "straight")},
        ],
    )
    run(
        tiny_llama,
        out,
        1,
        [
            {"name": "middle", "settings": at[0], "load": f"{first}/step_3", "steps": 3}
            | {"save": second},
            {"name": "nine", "settings": at[0], "steps": 9, "save": str(out / "reference")},
        ],
    )
    run(
        tiny_llama,
        out,
        2,
        [
            {"name": "last", "settings": at[2], "load": f"{second}/step_3", "steps": 3}
            | {"save": str(out / "third")},
            {"name": "again", "settings": at[3], "load": f"{first}/step_3", "steps": 3},
        ],
    )
    return out


def test_training_that_moves_from_two_ranks_to_one_and_back_equals_training_on_one(resharded):
    from safetensors.torch import load_file

    moved, straight = (load_file(resharded / f"{n}.safetensors") for n in ("last", "nine"))
    for name, weight in moved.items():
        assert float((weight - straight[name]).norm() / straight[name].norm()) <= 1e-5, name


def test_a_run_resumed_on_the_same_ranks_continues_exactly(resharded):
    from safetensors.torch import load_file

    again, six = (load_file(resharded / f"{name}.safetensors") for name in ("again", "six"))
    for name, weight in again.items():
        assert bool((weight == six[name]).all()), name
    losses = json.loads((resharded / "six.json").read_text())
    assert json.loads((resharded / "again.json").read_text()) == losses[3:]


def test_the_exported_average_does_not_depend_on_the_ranks_that_wrote_it(resharded):
    from transformers import AutoModelForCausalLM

    moved, straight = (
        dict(AutoModelForCausalLM.from_pretrained(resharded / name).named_parameters())
        for name in ("third/step_3", "reference/step_9")
    )
    assert moved.keys() == straight.keys()
    for name, weight in moved.items():
        difference = (weight - straight[name]).detach().norm() / straight[name].detach().norm()
        assert float(difference) <= 1e-5, name
