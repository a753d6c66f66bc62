"""Training processes on Ray: what they are given, and how their mistakes come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from datapipe.errors import UserError
from jobs.launch import Launch, on_ray


@pytest.mark.slow
@pytest.mark.ray
def test_a_users_mistake_in_a_worker_comes_back_as_one(tmp_path, monkeypatch):
    """Not as Ray's report of a failed worker; every worker knows its rank and the others.

    Its relative paths are the command's.
    """
    import ray

    monkeypatch.chdir(tmp_path)

    def work() -> None:
        from datapipe.errors import UserError
        from lora_engine.training import parallel

        Path(f"{parallel.rank()} of {parallel.processes()}").touch()
        parallel.wait_for_all()
        raise UserError("the checkpoint is of another model")

    launch = Launch(workers=2, max_failures=0)
    try:
        with pytest.raises(UserError, match="of another model"):
            on_ray(launch, work, Path(), "cpu", quiet=True)
    finally:
        ray.shutdown()
    assert {path.name for path in tmp_path.glob("* of *")} == {"0 of 2", "1 of 2"}


@pytest.mark.parametrize("bad", [{"workers": 0}, {"address": "auto"}, {"max_failures": -1}])
def test_settings_that_cannot_be_are_refused(bad):
    """No workers, a cluster for none, a negative number of losses."""
    with pytest.raises(ValueError, match="--"):
        Launch(**bad)
