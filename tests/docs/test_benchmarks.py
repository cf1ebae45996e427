"""The benchmark command runs; its figures are for people, and not checked here."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.docs.blocks import REPOSITORY


def benchmarks(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_a_benchmark_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "results.json"
    done = benchmarks("matching", "subscriptions", "--quick", "--json", file)
    assert done.returncode == 0, done.stderr
    assert "equality, 1,000" in done.stdout
    results = json.loads(file.read_text())
    assert results["machine"]["python"]
    assert results["results"]["matching"]["rows"][0]["p50 µs"] > 0
    assert results["results"]["subscriptions"]["rows"][0]["longest stop ms"] > 0


def test_an_unknown_benchmark_is_refused():
    done = benchmarks("speed")
    assert done.returncode == 2
    known = "rest, latency, connections, fanout, slow, feeds, matching, subscriptions"
    assert f"known: {known}" in done.stderr
