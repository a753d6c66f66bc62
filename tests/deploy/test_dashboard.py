"""The Grafana dashboard and the code name the same metrics."""

import json
import re
from pathlib import Path

import pytest
import yaml

from datapipe.line.metrics import COUNTERS, IN_LINE, SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/harmoview.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
OWN = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{IN_LINE}"}
OF_HISTOGRAM = {f"ray_{SECONDS}_{part}" for part in ("bucket", "count", "sum")}
LABELS = {"run", "stage", "le", *(label for labels, _ in COUNTERS.values() for label in labels)}


def test_the_dashboard_shows_every_metric_and_no_other():
    """A metric that nobody sees, or a panel that stays empty, is a mistake."""
    shown = {name for text in EXPRESSIONS for name in re.findall(r"ray_harmoview_\w+", text)}
    assert OWN <= shown <= OWN | OF_HISTOGRAM


def test_what_it_takes_of_ray_is_there():
    """Ray's own metrics, by the installed Ray."""
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES
    from ray.data._internal.execution.interfaces.op_runtime_metrics import OpRuntimeMetrics

    known = {f"ray_data_{metric.name}" for metric in OpRuntimeMetrics.get_metrics()}
    known |= {f"ray_{name}" for name in METRICS_GAUGES}
    names = {name for text in EXPRESSIONS for name in re.findall(r"\bray_\w+", text)}
    assert {name for name in names if "harmoview" not in name} <= known


def test_its_labels_are_those_of_the_metrics():
    """What the figures are grouped and selected by."""
    own = [text for text in EXPRESSIONS if "ray_harmoview" in text]
    grouped = {
        g for text in own for by in re.findall(r"by \(([^)]*)\)", text) for g in by.split(", ")
    }
    selected = {name for text in own for name in re.findall(r"(\w+)[=!]=?~?\"", text)}
    assert grouped | selected <= LABELS


def test_panels_have_places_of_their_own():
    """No two overlap, and each says where its data are from."""
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        assert panel["datasource"]["uid"] == "${datasource}"
        taken |= cells


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_the_monitor_finds_the_pods(kind):
    """KubeRay labels them so, and names the port `metrics`."""
    monitor = yaml.safe_load((DEPLOY / "kuberay/monitors.yaml").read_text())
    (expression,) = monitor["spec"]["selector"]["matchExpressions"]
    assert expression["key"] == "ray.io/node-type"
    assert kind in expression["values"]
    cluster = yaml.safe_load((DEPLOY / "kuberay/raycluster.yaml").read_text())
    (head,) = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in head["ports"]]
