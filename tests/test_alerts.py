"""Alert rules: they are tested by Prometheus's own tool, name metrics that exist, and each has its runbook."""

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

from scrapes import scrape_site
from syncd.report.expiry import Expiry, Urgency
from syncd.trust.values import lifetime
from web_site import running
from world import START, World

PROJECT = Path(__file__).parents[1]
MONITORING = PROJECT / "monitoring"
TESTS = list(MONITORING.glob("*_test.yml"))
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text().partition("\n## Alerts\n")[2]
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
NAMES = list(dict.fromkeys(rule["alert"] for rule in RULES))
METRICS = set(re.findall(r"^\| `([a-z_]+)` \| [a-z]+ \|", (PROJECT / "docs" / "metrics.md").read_text(), re.M))
OF_PROMETHEUS = {"up"}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def run(*arguments: str, given: str = "") -> str:
    """What promtool says; it must be content."""
    ran = subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@promtool
def test_the_rules_are_sound() -> None:
    """Prometheus would load them, without a word against them."""
    assert f"SUCCESS: {len(RULES)} rules found" in run("check", "rules", "--lint-fatal", "alerts.yml")


@promtool
def test_the_rules_fire_when_they_should_and_else_do_not() -> None:
    """As the files beside them tell."""
    assert run("test", "rules", *sorted(path.name for path in TESTS)).count("SUCCESS") == 4


@promtool
def test_prometheus_has_nothing_to_say_against_our_metrics(standing: World) -> None:
    """Names, types, units and help follow its conventions."""
    with running(standing) as web:
        web.add("upload")
        text = scrape_site(web).text
    assert run("check", "metrics", given=text) == ""


def test_every_alert_has_a_test() -> None:
    """As one that fires, at each severity."""
    tests = "".join(path.read_text() for path in TESTS)
    severities = {(rule["alert"], rule["labels"]["severity"]) for rule in RULES}
    told = set(re.findall(r'alertname="(\w+)", severity="(\w+)"', tests))
    assert severities - told == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_metric_that_a_rule_names_exists(rule: dict[str, Any]) -> None:
    """A rule on a metric that nobody exports never fires, and nobody notices."""
    without_labels = re.sub(r"\{[^}]*\}|\b(by|on|group_left) \([^)]*\)", "", rule["expr"])
    named = set(re.findall(r"\b(?:syncd_[a-z_]+|up)\b", without_labels))
    assert named
    assert {name.removesuffix("_bucket") for name in named} - METRICS - OF_PROMETHEUS == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_is_served_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity, summary, description, runbook."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    annotations = rule["annotations"]
    assert annotations["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert annotations["summary"]
    assert re.search(r"serve|answer", annotations["description"])


def test_runbooks_get_an_absolute_address() -> None:
    """An alert is read in a chat or on a pager, where a relative path leads nowhere; nothing else is changed."""
    made = [
        subprocess.run(
            ["make", "-s", "-C", PROJECT, "alerts", *given], capture_output=True, text=True, check=True
        ).stdout
        for given in ([], ["runbook=https://wiki.example.org/syncd/operations"])
    ]
    assert made[0] == (MONITORING / "alerts.yml").read_text()
    links = {*re.findall(r"runbook_url: (\S+)", made[1])}
    assert links == {f"https://wiki.example.org/syncd/operations#{rule['alert'].lower()}" for rule in RULES}
    assert made[1].replace("https://wiki.example.org/syncd/operations#", "docs/operations.md#") == made[0]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """In the order of the rules."""
    assert re.findall(r"^### (\w+)$", OPERATIONS, re.M) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_says_all_that_is_asked_at_night(name: str) -> None:
    """What it means, what is served, how to look, what to do, how to know that it is over."""
    found = re.search(rf"^### {name}\n(.*?)(?=^### |\Z)", OPERATIONS, re.M | re.S)
    assert found
    assert re.findall(r"^- \*\*(\w+)\*\*: ", found[1], re.M) == ["Means", "Served", "Look", "Do", "Over"]


def limits(name: str) -> list[float]:
    """The numbers that follow ``<`` and ``>`` in the rules of an alert, in seconds."""
    found = [one for rule in RULES if rule["alert"] == name for one in re.findall(r"[<>] ([0-9* ]+)", rule["expr"])]
    return [float(eval(one)) for one in found if one.strip()]  # numbers and * only


def test_expiry_is_told_at_the_days_that_status_tells_it() -> None:
    """Sixty, thirty and seven days before; what is signed by itself, when less than a quarter of its life is left."""
    days = [seconds / 86400 for seconds in limits("SyncdMetadataExpiring")]
    assert days == [60, 30, 30, 7, 7]
    states = [Expiry("root", 1, START, timedelta(days=left)).urgency for left in (61, 60, 30, 7)]
    assert states == [Urgency.FINE, Urgency.SOON, Urgency.NEXT, Urgency.URGENT]
    overdue = [lifetime("snapshot").total_seconds() / 4, lifetime("a list's own").total_seconds() / 4]
    assert limits("SyncdMetadataOverdue") == overdue


def test_ages_are_judged_by_the_limits_of_each_list() -> None:
    """As everywhere: from the limit itself on."""
    rules = {name: " ".join(rule["expr"].split()) for rule in RULES if (name := rule["alert"]).endswith("Stale")}
    age, limit = "time() - syncd_list_verified_timestamp_seconds", "syncd_list_age_limit_seconds"
    assert rules == {
        "SyncdListStale": f'{age} >= ignoring (level) {limit}{{level="warn"}}',
        "SyncdListVeryStale": f'{age} >= ignoring (level) {limit}{{level="critical"}}',
    }


def test_a_timestamp_is_missed_after_two_hours() -> None:
    """Twice as long as it may take."""
    assert limits("SyncdTimestampNotSigned") == [(lifetime("timestamp") - timedelta(hours=2)).total_seconds()]
