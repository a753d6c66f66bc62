"""What measures GPUs, as a dry run: tiny models on the CPU where there is none."""

import json
import re
import runpy
import sys
from contextlib import redirect_stdout

import pytest

from benchmarks.on_gpu import PARTS, OnGpuBenchmark, Part, main, row, run
from tests.processes import forked


def test_the_limits_leave_room_for_the_start_of_eight_minutes():
    """All parts fit the time for all, even if each takes what it may."""
    assert sum(part.limit for part in PARTS) <= OnGpuBenchmark("x.json").seconds


def test_a_part_that_fails_or_hangs_costs_only_itself():
    """Each outcome is told with its reason, and what was printed before is kept."""
    code = "import sys, time; print('a  line'); "
    ends = {"done": "", "failed": "raise ValueError('no')", "timed out": "time.sleep(60)"}
    for outcome, end in ends.items():
        limit = 5.0 if outcome == "timed out" else 60.0  # starting Python takes a while
        found = run(Part("p", (), (), limit), ("-c", code + end), 100)
        assert (found.outcome, found.lines) == (outcome, ("a  line",))
        assert bool(found.why) == (outcome != "done")
        assert "a line" in row(found)
    late = run(Part("p", (), (), 2.0), ("-c", code), 1.0)
    assert (late.outcome, late.seconds) == ("skipped", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "measured"), [("synthesis 512", "stock"), ("generate step 5B", "s a step")]
)
def test_a_part_runs(tmp_path, name, measured):
    """With tiny models, in a process that has imported everything."""
    part = next(part for part in PARTS if part.name == name)
    process = forked().Process(target=as_command, args=(part.tiny[1:], tmp_path / "out"))
    process.start()
    process.join()
    assert process.exitcode == 0
    lines = [line for line in (tmp_path / "out").read_text().splitlines() if measured in line]
    assert max(float(found) for found in re.findall(r"\d+\.\d{3}", "\n".join(lines))) > 0


def as_command(words, out):
    """`python -m words`, its output in a file."""
    sys.argv = list(words)
    with out.open("w") as file, redirect_stdout(file):
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


@pytest.mark.slow
def test_parts_make_a_table(tmp_path, capsys):
    """A row and an entry for each part."""
    main(OnGpuBenchmark(tmp_path / "gpu.json", parts=("train step 5B",)))
    (part,) = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert (part["name"], part["outcome"]) == ("train step 5B", "done"), part
    assert len(capsys.readouterr().out.splitlines()) == 1
