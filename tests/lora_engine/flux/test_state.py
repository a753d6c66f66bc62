import multiprocessing
import os
import signal
import time

import pytest
import torch
from diffusers.training_utils import EMAModel

from datapipe.errors import UserError
from datapipe.files import Folder
from lora_engine.flux.state import checkpoints, load_state, save_state


def learner(size=4, seed=0):
    """(parameters, optimiser, averages) after two steps."""
    torch.manual_seed(seed)
    parameters = {name: torch.nn.Parameter(torch.randn(size, 3)) for name in ("a", "b")}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1)
    ema = EMAModel(list(parameters.values()), decay=0.9)
    for _ in range(2):
        step((parameters, optimizer, ema))
    return parameters, optimizer, ema


def step(one):
    parameters, optimizer, ema = one
    optimizer.zero_grad()
    sum((p**2).sum() for p in parameters.values()).backward()
    optimizer.step()
    ema.step(parameters.values())


def test_what_is_loaded_goes_on_as_what_was_saved(tmp_path):
    """Weights, moments and averages continue bit for bit."""
    one, other = learner(), learner(seed=9)
    save_state(Folder(tmp_path), 2, *one)
    load_state(Folder(tmp_path), 2, *other)
    for _ in range(3):
        step(one)
        step(other)
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    assert all(map(torch.equal, one[2].shadow_params, other[2].shadow_params))


class Nested(torch.optim.AdamW):
    """Keeps a part of its state a level deeper, as bitsandbytes does."""

    def state_dict(self):
        whole = super().state_dict()
        deep = {i: {"deep": {"m": e["exp_avg"]}, **e} for i, e in whole["state"].items()}
        return {**whole, "state": deep}


def test_nested_optimizer_state_survives(tmp_path):
    """Whatever depth a tensor lies at, it comes back there."""
    parameters, _, ema = learner()
    optimizers = [Nested(parameters.values(), lr=0.1) for _ in range(2)]
    step((parameters, optimizers[0], ema))
    save_state(Folder(tmp_path), 1, parameters, optimizers[0], ema)
    load_state(Folder(tmp_path), 1, parameters, optimizers[1], ema)
    loaded = optimizers[1].state[parameters["a"]]
    assert torch.equal(loaded["deep"]["m"], optimizers[0].state[parameters["a"]]["exp_avg"])


def test_the_last_two_checkpoints_stay(tmp_path):
    """Older ones are deleted, and they are found in order."""
    one = learner()
    for done in (2, 10, 100, 1_000_000):
        save_state(Folder(tmp_path), done, *one)
    assert checkpoints(Folder(tmp_path)) == [100, 1_000_000]


def test_a_checkpoint_of_another_lora_is_refused(tmp_path):
    """Shapes that differ are named as the user's mistake."""
    save_state(Folder(tmp_path), 2, *learner())
    with pytest.raises(UserError, match="another LoRA"):
        load_state(Folder(tmp_path), 2, *learner(size=5))


def write_forever(folder):
    """Checkpoints of a few MB, so that a kill is likely to fall into a write."""
    torch.set_num_threads(1)
    one, parent = learner(size=100_000), multiprocessing.parent_process()
    for done in range(2, 10**6):
        if not parent.is_alive():
            return
        save_state(Folder(folder), done, *one)


@pytest.mark.slow
def test_sigkill_while_writing_leaves_whole_checkpoints(tmp_path):
    """Whenever it is killed, every checkpoint in the folder loads; there is one from before."""
    context = multiprocessing.get_context("spawn")
    save_state(Folder(tmp_path), 1, *learner(size=100_000))
    seen = set()
    for i in range(6):
        worker = context.Process(target=write_forever, args=(tmp_path,))
        worker.start()
        deadline = time.monotonic() + 60
        while checkpoints(Folder(tmp_path))[-1] < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.013 * i)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        found = checkpoints(Folder(tmp_path))
        assert found
        for done in found:
            load_state(Folder(tmp_path), done, *learner(size=100_000))
        seen.add(found[-1])
        for done in found:
            Folder(tmp_path).delete(f"{done:06d}.safetensors")
        save_state(Folder(tmp_path), 1, *learner(size=100_000))
    assert max(seen) >= 4
