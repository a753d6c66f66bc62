"""What measures GPUs, as a dry run: tiny models on the CPU where there is none."""

import json

import pytest

from benchmarks.on_gpu import PARTS, OnGpuBenchmark, Part, main, row, run


def test_the_limits_leave_room_for_the_start_of_eight_minutes():
    """All parts fit the time for all, even if each takes what it may."""
    assert sum(part.limit for part in PARTS) <= OnGpuBenchmark("x.json").seconds


def test_a_part_that_fails_or_hangs_costs_only_itself():
    """Each outcome is told with its reason, and what was printed before is kept."""
    code = "import sys, time; print('a  line', flush=True); "
    ends = {"done": "", "failed": "raise ValueError('no')", "timed out": "time.sleep(60)"}
    for outcome, end in ends.items():
        found = run(Part("p", (), (), 2.0), ("-c", code + end), 100)
        assert (found.outcome, found.lines) == (outcome, ("a  line",))
        assert bool(found.why) == (outcome != "done")
        assert "a line" in row(found)
    late = run(Part("p", (), (), 2.0), ("-c", code), 1.0)
    assert (late.outcome, late.seconds) == ("skipped", 0.0)


@pytest.mark.slow
def test_parts_run(tmp_path, capsys):
    """With tiny models: a row and an entry for each part, with its numbers."""
    names = ("synthesis 512", "train step 5B", "generate step 5B")
    main(OnGpuBenchmark(tmp_path / "gpu.json", parts=names))
    found = json.loads((tmp_path / "gpu.json").read_text())
    done = [(part["name"], part["outcome"]) for part in found["parts"]]
    assert done == [(name, "done") for name in names], found["parts"]
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    stock = next(line for line in found["parts"][0]["lines"] if line.startswith("stock"))
    assert float(stock.split()[3]) > 0
