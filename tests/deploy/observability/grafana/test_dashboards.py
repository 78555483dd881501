from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from deploy.observability.grafana.boards import BOARDS

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "deploy" / "observability" / "grafana" / "dashboards"
SCHEMAS = ROOT.parent / "shared" / "schemas" / "grafana"


@pytest.fixture(params=[board.uid for board in BOARDS])
def shipped(request):
    return json.loads((SHIPPED / f"{request.param}.json").read_text())


def test_the_shipped_dashboards_are_up_to_date():
    panels = pytest.importorskip(
        "deploy.observability.grafana.panels", reason="needs grafana-foundation-sdk"
    )
    rendered = {f"{board.uid}.json": panels.render(board) for board in BOARDS}
    assert {path.name: path.read_text() for path in SHIPPED.glob("*.json")} == rendered


def test_they_follow_grafanas_schema(shipped):
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas in {SCHEMAS}")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((SCHEMAS / "dashboard.jsonschema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(shipped)
    for panel in shipped["panels"]:
        schema = json.loads((SCHEMAS / f"{panel['type']}.jsonschema.json").read_text())
        options = {"$ref": "#/definitions/Options", "definitions": schema["definitions"]}
        jsonschema.Draft7Validator(options).validate(panel["options"])


def test_no_two_panels_overlap(shipped):
    taken = set()
    for panel in shipped["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_series_can_be_told_apart_and_names_its_run_or_actor(shipped):
    for panel in shipped["panels"]:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), panel["title"]
        if panel["title"] != "Alerts firing":
            assert all("{{run}}" in text or "{{actor}}" in text for text in legends)


def test_the_helm_sidecar_gets_every_dashboard():
    kustomization = yaml.safe_load((SHIPPED.parent / "kustomization.yaml").read_text())
    files = kustomization["configMapGenerator"][0]["files"]
    assert files == [f"dashboards/{board.uid}.json" for board in BOARDS]


@pytest.mark.parametrize(
    "starter", ["deploy/observability/monitor.py", "deploy/docker/compose.yaml"]
)
def test_each_way_to_start_grafana_sets_the_variables_of_its_provisioning(starter):
    provisioning = "".join(path.read_text() for path in SHIPPED.parent.glob("provisioning/*/*.yml"))
    wanted = set(re.findall(r"\$(\w+)", provisioning))
    assert wanted == {"MIXSD_PROMETHEUS_URL", "MIXSD_DASHBOARDS"}
    assert all(name in (ROOT / starter).read_text() for name in wanted)
