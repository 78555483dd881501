"""Systems to plan: the smoke run on two cores, or any configuration on any device."""

from pathlib import Path

import pytest

from common.config import run_config as config
from deploy.planning import devices, planner

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def system():
    def build(name, *overrides, over=(), device="cpu", cores=2, fast_dtype="bfloat16", **options):
        overlays = [CONFIGS / "paper" / f"{one}.yaml" for one in over]
        settings = config.load(CONFIGS / f"{name}.yaml", overrides, overlays)
        return planner.system_of(settings, devices.find(device, cores, fast_dtype), **options)

    return build
