"""Chapter 27's package: styles, weighted crowds, meters that wrap, cards that can't be edited."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace

import crowd
import groups
import nbformat
import numpy as np
import pytest
import shipping
import torch
from groups import cards, energy, styles
from torch import nn
from torch.nn import functional as F

from helpers.training import epoch_order
from tools.chapter import ROOT

CHAPTER = ROOT / "notebooks" / "27_fairness.ipynb"


# ---- styles ----


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    x = np.zeros((20, 28, 28), "float32")
    x[:, 6:22, 10:18] = rng.random((20, 16, 8))
    return x


@pytest.mark.parametrize("by", [-0.6, 0.25, 0.6, 0.0])
def test_a_lean_changes_the_slant_by_itself_and_keeps_the_ink(pictures, by):
    leaning = styles.lean(pictures, by)
    np.testing.assert_allclose(leaning.sum((1, 2)), pictures.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(styles.slant(leaning) - styles.slant(pictures), by, atol=1e-4)


def test_a_stroke_to_the_upper_right_leans_to_the_right():
    x = np.zeros((1, 9, 9))
    x[0, np.arange(9), 8 - np.arange(9)] = 1  # row 0 is at the top
    assert styles.slant(x)[0] == pytest.approx(1)
    assert styles.slant(x[:, :, ::-1])[0] == pytest.approx(-1)


def test_the_chapter_shows_the_functions_of_the_package():
    shown = {}
    for cell in nbformat.read(CHAPTER, 4).cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            shown |= {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    source = Path(styles.__file__).read_text("utf-8")
    ours = {n.name: n for n in ast.parse(source).body if hasattr(n, "name")}
    for name in ("slant", "lean"):
        body = ours[name].body[1:]  # without the docstring
        assert [ast.dump(n) for n in body] == [ast.dump(n) for n in shown[name].body], name


# ---- training ----


@pytest.fixture
def sets():
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.random((2, 60, crowd.SIDE**2)))
    y = torch.tensor(rng.integers(0, 10, (2, 60)))
    return x, y, rng.random((2, 60)) < 0.2


def alone(x, y, seed, loss_of, epochs=2):
    """One network as PyTorch trains it; `loss_of(each, rows)` is the loss of a batch."""
    W, b, V, c = (torch.tensor(p) for p in crowd.start(seed, 12))
    model = nn.Sequential(nn.Linear(196, 12), nn.ReLU(), nn.Linear(12, 10)).double()
    with torch.no_grad():
        for p, value in zip(model.parameters(), (W.T, b, V.T, c), strict=True):
            p.copy_(value)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for epoch in range(epochs):
        for rows in torch.tensor(epoch_order(60, seed, epoch)).split(20):
            loss = loss_of(F.cross_entropy(model(x[rows]), y[rows], reduction="none"), rows)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model(x).detach()


HOW = {"epochs": 2, "width": 12, "batch_size": 20}


def test_without_options_it_is_the_training_of_crowd(sets):
    x, y, rare = sets
    ours = groups.train(x, y, rare, [3, 4], **HOW)
    theirs = crowd.train(x, y, [3, 4], **HOW, lr=3e-3)
    torch.testing.assert_close(ours.logits(x), theirs.logits(x), rtol=0, atol=1e-12)


def test_weights_are_those_of_a_network_alone(sets):
    x, y, rare = sets
    net = groups.train(x, y, rare, [3, 4], times=7, **HOW)
    for i, seed in enumerate((3, 4)):
        w = torch.tensor(np.where(rare[i], 7.0, 1.0))
        w /= w.mean()
        by_hand = alone(x[i], y[i], seed, lambda each, rows, w=w: (w[rows] * each).mean())
        torch.testing.assert_close(net.logits(x)[i], by_hand, rtol=0, atol=1e-10)
    plain = groups.train(x, y, rare, [3, 4], **HOW)
    assert (plain.logits(x) - net.logits(x)).abs().max() > 1e-3


def test_group_dro_is_that_of_a_network_alone(sets):
    x, y, rare = sets
    net = groups.train(x, y, rare, [3, 4], dro=0.1, **HOW)
    for i, seed in enumerate((3, 4)):
        member = [torch.tensor(~rare[i]), torch.tensor(rare[i])]
        share, q = [float(m.double().mean()) for m in member], [0.5, 0.5]

        def loss_of(each, rows, member=member, share=share, q=q):
            for g in range(2):
                if member[g][rows].any():
                    q[g] *= float(torch.exp(0.1 * each.detach()[member[g][rows]].mean()))
            total = sum(q)
            q[:] = [v / total for v in q]
            parts = [q[g] / share[g] * (each * member[g][rows]).mean() for g in range(2)]
            return parts[0] + parts[1]

        by_hand = alone(x[i], y[i], seed, loss_of)
        torch.testing.assert_close(net.logits(x)[i], by_hand, rtol=0, atol=1e-10)


def test_resampling_draws_the_rare_as_often_as_the_others(sets, monkeypatch):
    x, _, rare = sets
    drawn, before = [], F.cross_entropy

    def watch(logits, labels, **how):
        drawn.append(labels)
        return before(logits, labels, **how)

    monkeypatch.setattr(F, "cross_entropy", watch)
    marked = torch.tensor(rare.astype("int64"))  # a label that says who is rare
    times = float((~rare[0]).sum() / rare[0].sum())
    groups.train(x[:1], marked[:1], rare[:1], [0], times=times, resample=True, epochs=40)
    share = torch.cat([d.flatten() for d in drawn]).double().mean().item()
    assert abs(share - 0.5) < 5 * 0.5 / (40 * 60) ** 0.5


def test_a_random_lean_changes_what_is_seen_and_none_does_not(sets):
    from groups.training import _leaning

    x, _, _ = sets
    plain, leaning = (groups.train(*sets, [0, 1], leaning=v, **HOW) for v in (0.0, 0.6))
    assert (plain.logits(x) - leaning.logits(x)).abs().max() > 1e-3
    square = torch.zeros(1, 14, 14, dtype=torch.float64)
    square[0, 3:11, 5:9] = 1.0
    for by in (0.0, 0.5, -0.5):
        ours = _leaning(square.reshape(1, -1), torch.tensor([by])).reshape(1, 14, 14)
        theirs = styles.lean(square.numpy(), by)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"times": 0}, "counts nobody"),
        ({"dro": 0.1, "times": 3}, "finds its own weights"),
        ({"dro": 0.1, "resample": True}, "finds its own weights"),
    ],
)
def test_what_makes_no_sense_is_refused(sets, how, words):
    with pytest.raises(groups.GroupsError, match=words):
        groups.train(*sets, [0, 1], **HOW, **how)


def test_sets_that_do_not_fit_are_refused(sets):
    x, y, rare = sets
    with pytest.raises(groups.GroupsError, match="Give each seed"):
        groups.train(x, y, rare, [0], **HOW)
    with pytest.raises(groups.GroupsError, match="an example of each group"):
        groups.train(x, y, np.zeros_like(rare), [0, 1], dro=0.1, **HOW)


def test_importance_has_a_mean_of_one_and_the_ratio_asked_for():
    rare = np.arange(100) < 2
    weight = groups.importance(rare, 49)
    assert weight.mean() == pytest.approx(1) and weight[0] / weight[-1] == pytest.approx(49)
    assert weight[rare].sum() == pytest.approx(weight[~rare].sum())


# ---- energy ----


class NoGPU:
    @staticmethod
    def nvmlInit():
        raise OSError("no driver")


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    return clock


def zone(root, number, name, microjoules, full=262_143_328_850):
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{full}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_counted_once_and_wrap(tmp_path, clock):
    zone(tmp_path, "0", "package-0", 262_143_000_000)
    zone(tmp_path, "1", "package-1", 5_000_000)
    zone(tmp_path, "0:0", "core", 1_000_000)  # a part of package 0
    zone(tmp_path, "2", "psys", 1_000_000)  # the whole board
    meter = groups.Meter(tmp_path, NoGPU)
    assert meter.names == ["processor, package-0", "processor, package-1"] and meter.why == ""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "1", "package-1", 7_500_000)
    clock.now = 20
    assert list(meter.read().values()) == pytest.approx([1.328850, 2.5])
    zone(tmp_path, "0", "package-0", 3_000_000)
    clock.now = 40
    assert list(meter.read().values()) == pytest.approx([3.328850, 2.5])


def test_a_meter_that_may_have_wrapped_twice_refuses(tmp_path, clock):
    zone(tmp_path, "0", "package-0", 0, full=65_000_000_000)
    meter = groups.Meter(tmp_path, NoGPU)
    clock.now = 33  # 65 kJ at 2 kW
    with pytest.raises(groups.GroupsError, match="wrapped more than once: read it more often"):
        meter.read()


def test_a_machine_without_counters_says_so(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        meter = groups.Meter(root, NoGPU)
        assert meter.names == [] and "RAPL) is shown" in meter.why and "NVML" in meter.why
        with pytest.raises(groups.GroupsError, match="Nothing here counts energy: no counter"):
            meter.read()


def test_counters_that_only_root_may_read_are_named(tmp_path, monkeypatch):
    zone(tmp_path, "0", "package-0", 0)
    before = energy.Path.read_text

    def read(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return before(path, *args, **kwargs)

    monkeypatch.setattr(energy.Path, "read_text", read)
    assert "read by root only" in groups.Meter(tmp_path, NoGPU).why


@pytest.mark.parametrize("bad", ["", "many"])
def test_a_broken_counter_is_no_counter(tmp_path, bad):
    zone(tmp_path, "0", "package-0", bad)
    assert "can be read" in groups.Meter(tmp_path, NoGPU).why


def test_gpus_count_millijoules(tmp_path, clock):
    counts = {0: 1_000, 1: None}

    def energy_of(handle):
        if counts[handle] is None:
            raise OSError("not supported")
        return counts[handle]

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetTotalEnergyConsumption=energy_of,
    )
    meter = groups.Meter(tmp_path, nvml)
    assert meter.names == ["GPU 0"]
    counts[0], clock.now = 3_500, 1e6
    assert meter.read() == {"GPU 0": pytest.approx(2.5)}
    counts[0] = 0
    with pytest.raises(groups.GroupsError, match="ran backwards"):
        meter.read()


# ---- the card ----


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "digits.npz"
    file.write_bytes(b"weights")
    found = {
        "usual": {"n": 1234, "wrong": 25, "low": 0.0137, "high": 0.0297},
        "leaning": {"n": 567, "wrong": 98, "low": 0.1439, "high": 0.2062},
    }
    shipping.card(
        file,
        name="digits",
        version="1.0.0",
        purpose="digits",
        not_for="letters",
        data={"pictures": 4321},
        groups=found,
        effort={"joules": "7 to 80"},
    )
    return file


def test_the_page_says_what_the_card_says(file):
    page = groups.publish(file)
    text = groups.verify(file)
    assert "| leaning | 567 | 17.28 % | 14.39 % to 20.62 % |" in text
    assert "Worst off: leaning" in text
    assert sorted(p.suffix for p in file.parent.iterdir()) == [".json", ".md", ".npz"]
    for edited in (text.replace("17.28", "1.28"), text + "\nAnd it is fair.\n", ""):
        page.write_text(edited)
        with pytest.raises(groups.GroupsError, match="somebody edited it"):
            groups.verify(file)


def test_every_number_of_the_card_shows_on_the_page(file):
    card = shipping.check(file)
    before = groups.page(card)
    for group in card["groups"]:
        for key, by in (("n", 1), ("wrong", 1), ("low", -0.001), ("high", 0.001)):
            changed = json.loads(json.dumps(card))
            changed["groups"][group][key] += by
            assert groups.page(changed) != before, (group, key)
    for part, key in (("data", "pictures"), ("effort", "joules")):
        assert groups.page(card | {part: {key: "other"}}) != before


def test_no_number_of_the_page_is_typed():
    """The template's own text holds no digit: `:,` and `.2f` are formats, 100 makes a percent."""
    tree = ast.parse(Path(cards.__file__).read_text("utf-8"))
    page = next(n for n in tree.body if getattr(n, "name", "") == "page")
    texts = [n.value for n in ast.walk(page) if isinstance(n, ast.Constant)]
    typed = [t for t in texts if isinstance(t, str) and re.search(r"\d", t.replace("sha256", ""))]
    assert typed == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": {}}, "needs 'groups'"),
        ({"groups": {"all": {"n": 1, "wrong": 0, "low": 0, "high": 1}}}, "average once more"),
        ({"purpose": ""}, "needs 'purpose'"),
        ({"effort": {}}, "needs 'effort'"),
    ],
)
def test_a_card_that_leaves_out_who_is_refused(file, change, words):
    with pytest.raises(groups.GroupsError, match=words):
        groups.page(shipping.check(file) | change)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"n": 5, "wrong": 6, "low": 0, "high": 1}, "6 of 5 can't be wrong"),
        ({"n": 0, "wrong": 0, "low": 0, "high": 1}, "0 of 0 can't be wrong"),
        ({"n": 10, "wrong": 5, "low": 0.6, "high": 0.9}, "doesn't hold its own error"),
    ],
)
def test_groups_that_can_not_be_are_refused(file, found, words):
    card = shipping.check(file)
    with pytest.raises(groups.GroupsError, match=words):
        groups.page(card | {"groups": card["groups"] | {"odd": found}})


def test_a_page_is_written_as_a_whole_or_not_at_all(file, monkeypatch):
    page = groups.publish(file)
    before = page.read_text()

    def broken(*args):
        raise OSError("no room")

    monkeypatch.setattr(cards.os, "replace", broken)
    with pytest.raises(OSError, match="no room"):
        groups.publish(file)
    assert page.read_text() == before
    assert not page.with_suffix(".md.part").exists()


def test_another_file_gets_no_page(file):
    file.write_bytes(b"other weights")
    with pytest.raises(shipping.ShippingError, match="isn't the file"):
        groups.publish(file)
    with pytest.raises(groups.GroupsError, match=r"digits.md can't be read"):
        groups.verify(file)
