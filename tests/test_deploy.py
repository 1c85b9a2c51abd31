"""What is in `deploy/` works: each file is read by the program that it is for, where that is here."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from pipeline.telemetry.figures import COUNTERS, GAUGES, UNREACHED
from settings import load
from tests.support.nginx import example

DEPLOY = pathlib.Path(__file__).parent.parent / "deploy"
METRICS = {f"mailrace_{one.name}_total" for one in (*COUNTERS, UNREACHED)} | {f"mailrace_{one.name}" for one in GAUGES}


def needs(program: str) -> str:
    """The program's path; the test is skipped where it is not here."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        pytest.skip(f"there is no {program} here")
    return path


def test_systemd_takes_the_unit(tmp_path: pathlib.Path) -> None:
    """No unknown key, no bad value; its program is made to be there."""
    text = (DEPLOY / "mailrace.service").read_text()
    unit = tmp_path / "mailrace.service"
    unit.write_text(text.replace("/opt/mailrace/bin/mailrace", "/bin/true").replace("=mailrace\n", "=root\n"))
    verified = subprocess.run([needs("systemd-analyze"), "verify", unit], capture_output=True, text=True)
    assert not [line for line in verified.stderr.splitlines() if "mailrace.service" in line], verified.stderr


def test_the_unit_leaves_little_to_attack(tmp_path: pathlib.Path) -> None:
    """`systemd-analyze security` has it below 2.5 of 10, where 10 is a unit without any protection."""
    unit = tmp_path / "mailrace.service"
    unit.write_text((DEPLOY / "mailrace.service").read_text())
    command = [needs("systemd-analyze"), "security", "--offline=true", "--threshold=25", "--no-pager", unit]
    judged = subprocess.run(command, capture_output=True, text=True)
    if "unrecognized option" in judged.stderr:
        pytest.skip("this systemd-analyze judges no files")
    assert judged.returncode == 0, judged.stdout[-2000:] + judged.stderr


def test_nginx_takes_its_example(tmp_path: pathlib.Path) -> None:
    """With a certificate and ports of the test's own; `test_behind_nginx` runs it."""
    text = example(tmp_path, "127.0.0.1:1", 1)
    whole = f"error_log stderr; pid {tmp_path}/nginx.pid; events {{}} http {{ access_log off; {text} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    command = [needs("nginx"), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
    tried = subprocess.run(command, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr


def test_the_keys_that_nginx_s_example_names_are_keys() -> None:
    """They load."""
    lines = re.findall(r"^#   (www-[a-z-]+): (\S+)$", (DEPLOY / "nginx.conf").read_text(), re.MULTILINE)
    assert lines
    load([f"--{key}={value}" for key, value in lines], {})


def test_promtool_takes_the_rules() -> None:
    """Syntax and expressions."""
    command = [needs("promtool"), "check", "rules", DEPLOY / "prometheus-rules.yml"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", ["prometheus-rules.yml", "grafana.json"])
def test_only_metrics_that_there_are_are_asked_for(name: str) -> None:
    """As `/metrics` calls them."""
    named = set(re.findall(r"mailrace_[a-z_]+", (DEPLOY / name).read_text()))
    assert named
    assert named <= METRICS


def test_each_alert_leads_to_its_heading_in_the_runbook() -> None:
    """At three in the morning a dead link is no help."""
    headings = re.findall(r"^## (.*)$", (DEPLOY.parent / "docs" / "runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings}
    asked = re.findall(r"docs/runbook.md#([a-z-]+)", (DEPLOY / "prometheus-rules.yml").read_text())
    assert asked
    assert set(asked) <= anchors


def test_the_board_is_json_with_panels() -> None:
    """Each panel asks something."""
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert board["panels"]
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])


def test_the_container_file_copies_what_there_is() -> None:
    """Each source of a COPY from the checkout is in the checkout."""
    for line in re.findall(r"^COPY (?!--from)(.*)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (DEPLOY.parent / source).exists(), source


def test_logrotate_takes_its_file(tmp_path: pathlib.Path) -> None:
    """In its debug mode, which changes nothing."""
    copy = tmp_path / "logrotate.conf"
    copy.write_text((DEPLOY / "logrotate.conf").read_text().replace("mailrace mailrace", "root root"))
    copy.chmod(0o644)
    command = [needs("logrotate"), "--debug", "--state", tmp_path / "state", copy]
    tried = subprocess.run(command, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    assert "error" not in tried.stderr.lower(), tried.stderr
