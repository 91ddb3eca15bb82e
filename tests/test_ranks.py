"""The scripts of chapter 16: killed runs that end as if nothing had happened, and clear refusals.

Starting a rank costs seconds, so each launch here answers several questions.
"""

import contextlib
import copy
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ranks
import torch
from ranks import checkpoint, nets, start
from torch.nn import functional as F

STEPS = 12
STEPS_OF_64 = ("--steps", STEPS, "--batch-size", 64)


@pytest.fixture(scope="module")
def job():
    """Data, and first weights, in float64: 192 pictures are three batches of 64 an epoch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(192, 1, 28, 28, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 10, (192,), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = nets.make_torch_model().double().state_dict()
    return {"x": x, "y": y, "state": state}


@pytest.fixture(scope="module")
def unbroken(job):
    """What two ranks end with if nobody disturbs them."""
    first, second = ranks.launch("train", job, *STEPS_OF_64)
    assert first["start"] == 0 and same(first, second["state"])
    return first["state"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Launches keep their files in `tmp_path`; after the test, no process names it any more."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not left(tmp_path)


def left(folder):
    """Command lines that name the folder, where the system shows them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it may have ended
            found.append(path.read_bytes().decode(errors="replace"))
    return [line for line in found if str(folder) in line and "ranks." in line]


def same(rank, state):
    return all(torch.equal(rank["state"][name], state[name]) for name in state)


def test_a_rank_killed_in_mid_run_is_started_anew_and_ends_with_the_same_bits(job, unbroken, here):
    folder = here / "checkpoints"
    found = ranks.launch(
        "train", job, *STEPS_OF_64, "--checkpoints", folder, "--kill", 8, restarts=1
    )
    assert [rank["start"] for rank in found] == [5, 5]  # 6 to 8 were done twice
    assert all(same(rank, unbroken) for rank in found)


def test_killed_in_mid_run_then_while_it_writes_then_finished_by_one_rank(job, unbroken, here):
    folder = here / "checkpoints"
    options = (*STEPS_OF_64, "--checkpoints", folder)
    with pytest.raises(ranks.RanksError, match=r"^Rank 1 was killed \(SIGKILL\)\.$"):
        ranks.launch("train", job, *options, "--kill", 7)
    assert [path.name for path in folder.iterdir()] == ["step00000005.ckpt"]

    with pytest.raises(ranks.RanksError, match=r"^Rank 0 was killed \(SIGKILL\)\.$"):
        ranks.launch("train", job, *options, "--kill", 10, "--kill-in", "save")
    names = {path.name for path in folder.iterdir()}
    assert names == {"step00000005.ckpt", "step00000010.part"}  # half of it, and not taken for good
    assert checkpoint.newest(folder)["step"] == 5

    # By hand, with the same command; on two hosts, to everyone involved.
    found = ranks.launch("train", job, *options, hosts=2, ranks=1)
    assert [rank["start"] for rank in found] == [5, 5]
    assert all(same(rank, unbroken) for rank in found)
    assert sorted(path.name for path in folder.glob("*.ckpt"))[-1] == "step00000010.ckpt"

    # One rank goes on from what two have done: the same sums, in another order.
    found = checkpoint.newest(folder)
    (alone,) = ranks.launch("train", job, *options, ranks=1)
    assert alone["start"] == 10
    orders = [finish(job, found, seed) for seed in range(4)]
    bound = 8 * max(far(a, b) for a in orders for b in orders)  # an order like any other
    assert 0 < bound < 1e-12 and far(alone["state"], unbroken) <= bound


def far(ours, theirs):
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)


def finish(job, found, seed):
    """The last steps in this process, each batch in a random order: the same gradient, rounded so
    or so."""
    model = nets.make_torch_model().double()
    model.load_state_dict(found["model"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    optimizer.load_state_dict(copy.deepcopy(found["optimizer"]))  # it would keep these tensors
    generator = torch.Generator().manual_seed(seed)
    for step in range(found["step"], STEPS):
        epoch, batch = divmod(step, 3)
        order = torch.randperm(192, generator=torch.Generator().manual_seed(epoch))
        rows = order[64 * batch : 64 * (batch + 1)][torch.randperm(64, generator=generator)]
        optimizer.zero_grad()
        F.cross_entropy(model(job["x"][rows]), job["y"][rows]).backward()
        optimizer.step()
    return model.state_dict()


def test_the_ring_of_three_gives_all_the_same_sum(here):
    found = [rank["ring"] for rank in ranks.launch("checks", ranks=3)]
    values = torch.stack([ring["values"] for ring in found])
    bound = 4 * 2.0**-24 * values.abs().sum(0)  # two additions each, in either order
    for ring in found:
        assert torch.equal(ring["ours"], found[0]["ours"])
        assert ((ring["ours"] - ring["theirs"]).abs() <= bound).all()
        assert ((ring["ours"] - values.sum(0)).abs() <= bound).all()
        assert ring["sent"] == 4 * 4 * 335  # 2 (p - 1) thirds of 1003 numbers, rounded up


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ((), {"script": "trian"}, "There is no script 'trian' in ranks/: see what lies there."),
        ((), {"ranks": 0}, "ranks is 0: give a whole number from 1 on."),
        ((), {"hosts": 1.5}, "hosts is 1.5: give a whole number from 1 on."),
        ((), {"restarts": -1}, "restarts is -1: give a whole number from 0 on."),
        (
            ("--batch-size", 7),
            {},
            "Rank . failed: ValueError: A batch of 7 of 192 examples can't be shared among 2 "
            "ranks: give a multiple of 2, at most 192.",
        ),
        (("--steps", "many"), {"ranks": 1}, ".*argument --steps: invalid int value: 'many'"),
    ],
)
def test_what_cannot_be_started_is_refused_in_a_sentence(job, here, options, settings, message):
    settings = {"script": "train"} | settings
    with pytest.raises(ranks.RanksError, match=f"^{message}$"):
        ranks.launch(settings.pop("script"), job, *options, **settings)


def test_a_launch_that_takes_too_long_is_ended_with_all_its_ranks(job, here):
    before = time.monotonic()
    with pytest.raises(ranks.RanksError, match="not done after 8 s, and were ended"):
        ranks.launch("train", job, "--steps", 100_000, timeout=8)
    assert time.monotonic() - before < 60


def test_ranks_end_with_the_process_that_launched_them(job, here):
    torch.save(job, here / "job.pt")
    code = (
        "import torch, ranks; job = torch.load('job.pt');"
        "ranks.launch('train', job, '--steps', 100_000, '--checkpoints', 'kept')"
    )
    env = start._environment() | {"TMPDIR": str(here)}
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=here, env=env)
    try:
        wait_for(lambda: list(here.glob("kept/*.ckpt")))  # they are at work
    finally:
        launcher.kill()  # nothing of its own can run any more
        launcher.wait()
    wait_for(lambda: not left(here))


def wait_for(condition, patience=600):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_what_torchrun_left_in_the_environment_is_not_inherited(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    ours = start._environment()
    assert not {"MASTER_PORT", "RANK"} & set(ours) and ours["GLOO_SOCKET_IFNAME"] == "mine"
    assert ours["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1" and ours["OMP_NUM_THREADS"] == "1"


def test_a_spoiled_checkpoint_is_passed_over(tmp_path):
    for step in (5, 10, 15):
        path = checkpoint.save(tmp_path, step, {"weight": torch.full((3,), float(step))})
    assert sorted(os.listdir(tmp_path)) == ["step00000010.ckpt", "step00000015.ckpt"]
    content = path.read_bytes()
    for cut in (0, 10, 31, 32, 33, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        assert checkpoint.newest(tmp_path)["step"] == 10
        with pytest.raises(checkpoint.CheckpointError, match=r"^step00000015\.ckpt is damaged or"):
            checkpoint.load(path)
        path.write_bytes(content[:cut] + bytes([content[cut] ^ 128]) + content[cut + 1 :])
        assert checkpoint.newest(tmp_path)["step"] == 10
    path.write_bytes(content)
    assert checkpoint.newest(tmp_path)["weight"].tolist() == [15] * 3
    assert checkpoint.newest(tmp_path / "nowhere") is None


def test_a_process_that_dies_while_it_writes_leaves_the_old_checkpoint(tmp_path):
    checkpoint.save(tmp_path, 5, {"weight": torch.ones(3)})
    code = (
        "import pathlib, torch; from ranks import checkpoint;"
        f"checkpoint.save(pathlib.Path({str(tmp_path)!r}), 10, {{'weight': torch.ones(3)}}, True)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=start._environment(), timeout=600)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["step00000005.ckpt", "step00000010.part"]
    assert checkpoint.newest(tmp_path)["step"] == 5
    checkpoint.save(tmp_path, 10, {"weight": torch.ones(3)})  # the next try takes its place
    assert sorted(os.listdir(tmp_path)) == ["step00000005.ckpt", "step00000010.ckpt"]
