"""Plans: every shipped configuration, what does not fit, and the command line."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.config.run_config import load
from deploy.cli.main import main
from deploy.cli.options import DEVICES
from deploy.planning import devices, text
from deploy.planning.fitting import Machine, changed
from deploy.planning.planner import make_plan

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


# Where roles take turns: the smallest devices of the preset, and how many.
SMALL = {
    "24gb": (("l4", "a10", "rtx4090"), 1),
    "80gb": (("a100", "h100"), 1),
    "2gpu": (("a100",), 2),
}


@pytest.mark.parametrize(
    ("preset", "device", "gpus"),
    [(name, device, gpus) for name, (found, gpus) in SMALL.items() for device in found],
)
def test_a_preset_fits_the_gpus_that_it_is_named_after(system, preset, device, gpus):
    plan = make_plan(system(preset, device=device), gpus=gpus)
    assert plan.fits, plan.problems
    assert plan.gpus == gpus


def test_the_other_way_to_use_80_gb_fits_too(system):
    comment = (CONFIGS[0].parent / "80gb.yaml").read_text()
    changes = re.findall(r"--set (\S+?)\.?(?=\s)", comment)
    assert "learner.offload=optimizer" in changes
    plan = make_plan(system("80gb", *changes, device="a100"), gpus=1)
    assert plan.fits, plan.problems


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if path.stem not in SMALL], ids=lambda path: path.stem
)
def test_every_shipped_configuration_fits_one_node(system, path):
    gpu = load(path).engine.device == "cuda"
    made = system(path.stem, device="h100" if gpu else "cpu")
    plan = make_plan(made, gpus=8)
    assert plan.fits, plan.problems
    assert plan.gpus == (8 if gpu else 0)
    assert not [note for note in plan.notes if "max_model_len" in note]
    assert all(made.learner.rows(made.workload))
    assert all(len(line) <= 80 for line in text.plan_lines(plan))


def nearest(made, gpus=None):
    machine = Machine(made.engine.architecture, made.device, made.workload, gpus)
    assert machine.problems(made.config)
    changes = machine.nearest(made.config)
    assert changes
    assert not machine.problems(changed(made.config, changes))
    return changes


def test_sharding_is_the_remedy_for_an_unsharded_learner(system):
    made = system("8b", "learner.zero_stage=0", device="h100")
    assert nearest(made) == {"learner.zero_stage": 1}


def test_more_ranks_are_the_remedy_for_a_single_rank(system):
    made = system("8b", "learner.ranks=1", device="h100")
    assert nearest(made) == {"learner.ranks": 3}


def test_too_many_slots_are_lowered_to_what_fits(system):
    made = system("8b", "rollout.slots=1024", device="h100")
    slots = nearest(made)["rollout.slots"]
    machine = Machine(made.engine.architecture, made.device, made.workload)
    assert machine.problems(changed(made.config, {"rollout.slots": slots + 1}))


def test_a_small_kv_pool_is_enlarged(system):
    assert nearest(system("smoke", "rollout.slots=256")) == {"engine.kv_cache_gib": 2}


def test_a_given_number_of_blocks_bounds_the_slots(system):
    assert set(nearest(system("smoke", "engine.num_blocks=64"))) == {
        "rollout.slots",
        "evaluator.slots",
    }


def test_the_fisher_of_a_gpu_is_planned_beside_the_evaluators_engine(system):
    roles = {
        role.role: role
        for role in make_plan(system("24gb", "evaluator.fisher={}", device="l4")).roles
    }
    beside = roles["evaluator Fisher"]
    assert (beside.processes, beside.gpus) == (1, 0)
    # 1.72 billion weights in float32.
    assert beside.memory["weights"] == pytest.approx(4 * 1.72e9 / 2**30, rel=0.01)


def test_roles_that_share_a_gpu_slow_each_other(system):
    apart = make_plan(system("24gb", "cluster.placement=exclusive", device="l4"))
    together = make_plan(system("24gb", "cluster.placement=shared", device="l4"))
    assert (apart.gpus, together.gpus) == (3, 1)
    assert together.total_s > apart.total_s


def test_a_fisher_that_does_not_fit_beside_its_engine_takes_its_place(system):
    made = system("8b", "evaluator.fisher={engine: keep}", device="h100")
    assert nearest(made) == {"evaluator.fisher.engine": "close"}


def test_a_fisher_that_no_gpu_holds_is_computed_on_the_cpu(system):
    # Float32 weights of 8 B are 33 GB.
    made = system("8b", "evaluator.fisher={}", "learner.ranks=16", device="l4")
    assert nearest(made)["evaluator.fisher.device"] == "cpu"


def test_fewer_gpus_mean_fewer_actors(system):
    assert nearest(system("8b", device="h100"), gpus=6) == {"rollout.actors": 1}


def test_where_every_gpu_is_in_use_the_optimizer_is_offloaded(system):
    # 45 GiB do not hold Qwen3-8B's state over 4 ranks.
    changes = nearest(system("8b", device="l40s"), gpus=8)
    assert changes["learner.offload"] == "optimizer"
    assert "learner.ranks" not in changes


def test_with_gpus_left_it_is_spread_over_more_ranks(system):
    changes = nearest(system("8b", device="l40s"), gpus=16)
    assert changes["learner.ranks"] > 4
    assert "learner.offload" not in changes


def test_one_gpu_that_holds_no_whole_optimizer_trains_adapters_or_offloads(system):
    one = ("learner.ranks=1", "rollout.actors=1", "evaluator.actors=0")
    changes = nearest(system("8b", *one, device="h100"), gpus=2)
    assert changes["learner.offload"] == "optimizer"


def test_heads_must_divide(system):
    made = system("8b", "engine.tensor_parallel_size=3", device="h100")
    assert nearest(made) == {"engine.tensor_parallel_size": 1}


def test_a_machine_that_is_too_small_has_no_remedy(system):
    made = system("8b", device="cpu", cores=2)
    small = devices.find("cpu", 2)
    plan = make_plan(made)
    if made.device.memory_bytes > 400 * 2**30:
        pytest.skip(f"this machine's {small.memory_bytes >> 30} GiB hold it")
    assert not plan.fits
    assert plan.nearest is None
    assert "no setting was found" in "\n".join(text.plan_lines(plan))


def test_a_note_names_growth_during_the_run(system):
    plan = make_plan(system("smoke", "rollout.autoscale.max=4"))
    assert "planned at 1 rollout actors; it may grow to 4" in plan.notes


def test_a_run_without_training_plans_no_learner(system):
    plan = make_plan(system("smoke", "train=false"))
    assert {role.role for role in plan.roles} == {"rollout", "evaluator"}
    assert (plan.steps, plan.checkpoints, plan.exposures) == (0, 0, 0)
    assert plan.total_s >= plan.generated_s > 0
    assert "learner" not in " ".join(text.plan_lines(plan))
    drawn = make_plan(system("8b", "train=false", device="h100"))
    assert drawn.gpus == make_plan(system("8b", device="h100")).gpus - 4


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_prints_a_plan_and_exits_0_if_it_fits():
    result = run("plan", CONFIGS[0].parent / "8b.yaml", "--device", "h200", "--gpus", 8)
    assert result.exit_code == 0, result.output
    assert "8.19 B parameters, on h200" in result.output
    assert "not run on GPU" in result.output


def test_the_command_plans_a_cell_of_the_paper_under_a_name_of_its_own():
    paper = CONFIGS[0].parent / "paper"
    cell = ("--with", paper / "models/qwen3-1.7b.yaml", "--with", paper / "methods/sft.yaml")
    result = run("plan", paper / "kgfact-small.yaml", *cell, "--set", "learner.epochs=1", "--json")
    plan = json.loads(result.output)
    assert (plan["name"], plan["model"]) == ("kgfact-small-qwen3-1.7b-sft", "Qwen/Qwen3-1.7B")
    # 100 facts; one rollout actor.
    assert (plan["exposures"], plan["gpus"]) == (100, 6)


def test_the_command_exits_1_with_the_nearest_setting_if_it_does_not():
    result = run("plan", CONFIGS[0].parent / "8b.yaml", "--set", "learner.zero_stage=0")
    assert result.exit_code == 1
    assert "learner.zero_stage=1" in result.output


def test_json_holds_the_same_plan():
    result = run("plan", CONFIGS[0].parent / "8b.yaml", "--json", "--gpus", 6)
    plan = json.loads(result.output)
    assert (plan["fits"], plan["nearest"]) == (False, {"rollout.actors": 1})
    assert plan["parameters"] == 8_190_735_360


def test_a_sweep_is_printed_row_by_row(tmp_path):
    smoke, image = CONFIGS[0].parent / "smoke.yaml", tmp_path / "s.png"
    result = run("simulate", smoke, "--actors", "2,1", "--device", "cpu", "--plot", image)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[1:3]] == ["1", "2"]
    assert image.exists()


@pytest.mark.parametrize("name", ["nowhere/plot.png", "plot.xyz"])
def test_a_plot_that_cannot_be_written_is_refused_first(name, tmp_path):
    result = run("simulate", CONFIGS[0], "--plot", tmp_path / name)
    assert result.exit_code == 2
    assert "--plot" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0", "a", "1,5000", ""])
def test_numbers_of_actors_out_of_range_are_refused(value):
    result = run("simulate", CONFIGS[0], "--actors", value)
    assert result.exit_code == 2
    assert "--actors" in result.output


DOCS = (CONFIGS[0].parents[1] / "docs" / "planning.md").read_text().splitlines()
COMMANDS = [line.lstrip("$ ") for line in DOCS if re.match(r"(\$ )?mixsd-cluster ", line)]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(command, tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(CONFIGS[0].parent)
    monkeypatch.chdir(tmp_path)
    result = run(*shlex.split(command)[1:])
    # Exit code 1 is a result too: it does not fit, or an environment check failed.
    assert result.exit_code in (0, 1), result.output
    assert result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_the_command_line_offers_all_devices():
    assert set(DEVICES) == set(devices.NAMES)


def test_planning_imports_no_runtime():
    code = (
        "import sys; from deploy.planning import planner, scaling, text\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'deepspeed'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
