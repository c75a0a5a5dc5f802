"""What is shown exists: every figure, label and address that a dashboard, a rule or Prometheus asks for."""

import re
from pathlib import Path

import promql_parser
import pytest

from tests.support.deploy import ROOT, document, flag, services
from tests.support.figures import DASHBOARDS, dashboard, exported, exported_by, queries, rules, shown_of


def test_prometheus_asks_every_process_that_serves_figures():
    """Its targets are the compose file's services, and as many ports as they have workers; its own file is where it is told."""
    config = document(ROOT / "deploy" / "prometheus.yml")
    command = services()["examples"]["command"]
    first, workers = int(flag(command, "--metrics-port")), int(flag(command, "--workers"))
    targets = {each["job_name"]: [one for given in each["static_configs"] for one in given["targets"]] for each in config["scrape_configs"]}
    where = flag(services()["prometheus"]["command"], "--config.file")

    others = {name: [f"{name}:{flag(services()[name]['command'], '--metrics-port')}"] for name in ("score", "slack", "alert")}

    assert targets == {"examples": [f"examples:{port}" for port in range(first, first + workers)], **others}
    assert f"./deploy/prometheus.yml:{where}:ro" in services()["prometheus"]["volumes"]


def test_grafana_finds_prometheus_and_the_dashboard():
    """The addresses and folders that it is told are the compose file's."""
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = document(folder / "datasources" / "prometheus.yaml")["datasources"]
    (provider,) = document(folder / "dashboards" / "beepgpt.yaml")["providers"]
    grafana = services()["grafana"]
    mounted = dict(each.split(":")[:2] for each in grafana["volumes"])

    assert source["url"] == "http://prometheus:9090"
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy" / "grafana" / "dashboards" / home.name).is_file()


def check_query(title: str, text: str) -> None:
    """It is PromQL, and names figures that a job serves, labels that they have, and values that these can have."""
    selectors: list[promql_parser.VectorSelector] = []
    by: list[str] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            selectors.append(node.vector_selector)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            by.extend(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(text), visit)

    assert selectors, title
    for selector in selectors:
        labels = exported().get(selector.name or "")
        assert labels is not None, f"{title}: there is no {selector.name}"
        assert set(by) <= labels.keys(), f"{title}: {text}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{title}: {selector.name} has no {matcher.name}"
            known = labels[matcher.name]
            fits = re.compile(matcher.value if "~" in str(matcher.op) or "Re" in str(matcher.op) else re.escape(matcher.value))
            assert not known or any(fits.fullmatch(value) for value in known), f"{title}: no {matcher.name} is {matcher.value}"


def test_dashboards_ask_for_figures_that_exist():
    """Every query is PromQL, and names figures and labels that a process serves."""
    for title, text, _ in queries():
        check_query(title, text)


def test_prometheus_warns_by_figures_that_exist():
    """Every rule's, too; it has a name of its own and says what is wrong; and Prometheus finds the file beside its own."""
    for each in rules():
        check_query(each["alert"], each["expr"])
        assert each["labels"]["severity"] in ("warning", "critical") and each["annotations"]["summary"]
        assert set(re.findall(r"\$labels\.(\w+)", each["annotations"]["summary"])) <= {"figure", "model", "reason", "job", "instance"}
    given = services()["prometheus"]["volumes"]

    assert len({each["alert"] for each in rules()}) == len(rules())
    assert {"beepgpt_outcomes_lately", "beepgpt_model_validated", "beepgpt_alert_letters_total"} <= shown_of("score") | shown_of("alert")
    assert document(ROOT / "deploy" / "prometheus.yml")["rule_files"] == ["rules.yml"]
    assert "./deploy/prometheus-rules.yml:/etc/prometheus/rules.yml:ro" in given


def test_every_job_has_its_panels():
    """Nobody serves figures that nobody shows."""
    assert {job for job in exported_by() if shown_of(job) - {"beepgpt_build_info"}} == {"examples", "score", "alert", "slack"}
    assert shown_of("alert") >= {"beepgpt_alerts_told_total", "beepgpt_alerts_refused_total", "beepgpt_alert_seconds"}
    assert shown_of("slack") >= {"beepgpt_slack_connected", "beepgpt_slack_gaps", "beepgpt_slack_events_total"}


def test_counters_are_shown_as_rates():
    """A counter by itself only grows, and falls when a process starts again."""
    for title, text, _ in queries():
        for name in re.findall(r"\b\w+_total\b", text):
            assert re.search(rf"\b(rate|increase)\({name}\{{", text), f"{title}: {text}"


def test_a_legend_names_labels_that_its_query_keeps():
    """Else it would be empty."""
    for title, text, legend in queries():
        kept = set(re.findall(r"\bby \(([^)]*)\)", text)[0].replace(" ", "").split(",")) if " by " in text else {"instance"}

        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept, title


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_can_be_told_apart(name: str):
    """By their numbers and titles; none stands on another."""
    panels = dashboard(name)["panels"]
    places = [each["gridPos"] for each in panels]
    fields = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]

    assert len({each["id"] for each in panels}) == len({each["title"] for each in panels}) == len(panels)
    assert len(set(fields)) == len(fields)
    assert max(x for x, _ in fields) < 24


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_chooses_jobs_by_a_figure_that_exists(name: str):
    """The list of jobs comes from a query, too."""
    (jobs,) = (each for each in dashboard(name)["templating"]["list"] if each["name"] == "job")

    assert re.fullmatch(r"label_values\((\w+), job\)", jobs["query"]["query"]).group(1) in exported()  # type: ignore[union-attr]


def test_all_jobs_are_those_that_have_what_is_shown():
    """Where a dashboard is about some jobs alone, all of them are no others: the lag of alerts is not that of examples."""
    for name in DASHBOARDS:
        (jobs,) = (each for each in dashboard(name)["templating"]["list"] if each["name"] == "job")
        (figure,) = re.findall(r"label_values\((\w+), job\)", jobs["query"]["query"])
        are_all = all(figure in figures for figures in exported_by().values())

        assert jobs.get("allValue") in (None, *([".+"] if are_all else [])), name
    lags = [text for _, text, _ in queries() if "consumer_lag_records" in text and "by (" in text]
    assert lags and all(re.search(r"by \(job[,)]", text) for text in lags), "several jobs read the same partition"
