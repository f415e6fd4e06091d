"""Colours of whole batches on the device: the views that the loader would make, without a wait."""

import dataclasses
import json

import pytest
import torch
from fakecuda import fake_cuda, on_cuda
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batches import is_same, noise

from dgcl_nb.batch_colours import recolour_batch
from dgcl_nb.batches import BatchConfig, make_batch, make_loader
from dgcl_nb.colours import Colours, recolour
from dgcl_nb.engine import Stopped, fit
from dgcl_nb.store import ADDED, key_of
from dgcl_nb.training import Callback
from dgcl_nb.views import ViewConfig, Views, draw_colours, strong_view
from helpers import equal_states, state_of, tiny_run

CFG = ViewConfig(crop=20)
THERE = dataclasses.replace(CFG, device="on", strong_labelled=True)
HERE = dataclasses.replace(CFG, strong_labelled=True)
SIZES = dict(labelled=3, unlabelled=4)
TIPPED, FEW = 0.005, 8
"Share of values that may differ by a grey level, and how many always may: a rounding that tips."


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def drawn(num, cfg=CFG, seed=0):
    "What the loader draws for some images, each from a seed of its own."
    colours = []
    for i in range(num):
        torch.manual_seed(seed + i)
        colours.append(draw_colours(cfg))
    return colours


def one_by_one(images, colours):
    return torch.stack([recolour(image, c) for image, c in zip(images, colours)])


def nearly_equal(a, b):
    apart = (a.int() - b.int()).abs()
    # where a step tips, a later step of contrast may double it
    return apart.max() <= 4 and (apart > 0).sum() <= FEW + TIPPED * apart.numel()


def photograph_like(num, height, width, seed=0):
    "Smooth images: a few waves a channel, with all grey levels."
    g = torch.Generator().manual_seed(seed)
    waves = torch.rand(num, 3, 4, 5, generator=g)
    waves = torch.nn.functional.interpolate(waves, (height, width), mode="bicubic")
    return (waves * 255).clamp(0, 255).byte()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40))
def test_batch__is_its_images_one_by_one(seed, num, height, width):
    images, colours = photograph_like(num, height, width, seed), drawn(num, seed=seed)
    found = recolour_batch(images, colours)
    assert found.dtype == torch.uint8 and nearly_equal(found, one_by_one(images, colours))


@pytest.mark.parametrize(
    "more",
    [
        dict(hue=0.0),
        dict(brightness=20.0, contrast=20.0, saturation=20.0),
        dict(jitter_prob=0.0),
        dict(blur_prob=0.0, grey_prob=0.0),
        dict(grey_prob=1.0, blur_prob=1.0, blur_sigma=(5.0, 9.0)),
    ],
)
def test_batch__is_its_images_one_by_one_under_other_settings(more):
    images, colours = photograph_like(12, 24, 31), drawn(12, dataclasses.replace(CFG, **more))
    assert nearly_equal(recolour_batch(images, colours), one_by_one(images, colours))


def test_batch__has_the_statistics_of_the_loaders_views():
    image, num = photograph_like(1, 24, 24)[0], 600
    there = recolour_batch(image.expand(num, -1, -1, -1), drawn(num)).float()
    here = []
    for seed in range(num, 2 * num):  # other draws of the same distribution
        torch.manual_seed(seed)
        here.append(strong_view(image, CFG).float())
    here = torch.stack(here)

    def statistics(views):  # (num, 3, H, W): how bright, how contrasted, how coloured, how rough
        spread = views.amax(1) - views.amin(1)
        rough = views.diff(dim=3).abs()
        return torch.stack([x.flatten(1).mean(1) for x in (views, (views - 128).abs(), spread, rough)])

    a, b = statistics(there), statistics(here)
    error = (a.var(1) / num + b.var(1) / num).sqrt()
    assert ((a.mean(1) - b.mean(1)).abs() < 4 * error).all()
    assert (a.std(1) / b.std(1)).sub(1).abs().max() < 0.2
    is_grey = [(x == x[:, :1]).flatten(1).all(1).float().mean() for x in (there, here)]
    assert abs(is_grey[0] - is_grey[1]) < 0.1


def test_batch__without_colours_is_the_batch_itself():
    images = photograph_like(3, 8, 8)
    assert recolour_batch(images, [Colours()] * 3) is images
    some = recolour_batch(images, [Colours(), Colours(is_grey=True), Colours()])
    assert torch.equal(some[0], images[0]) and torch.equal(some[2], images[2])


def test_batch__does_not_change_what_it_is_given():
    images = photograph_like(6, 16, 16)
    before = images.clone()
    recolour_batch(images, drawn(6))
    assert torch.equal(images, before)


def test_batch__never_waits_for_the_device():
    images, colours = photograph_like(16, 24, 24), drawn(16)
    kinds = {name for c in colours for name, _ in c.steps}
    assert kinds == {"brightness", "contrast", "saturation", "hue"}
    assert any(c.is_grey for c in colours) and any(c.sigma for c in colours)
    with fake_cuda() as seen:
        given_ = on_cuda(images)
        seen.reset()
        found = recolour_batch(given_, colours)
    assert not seen.waits, seen.table()
    assert torch.equal(found.elem, recolour_batch(images, colours))
    # fewer orders than one image after the other, each with its own
    assert sum(seen.launches.values()) < 16 * 20


def test_loader__leaves_colours_to_the_device_without_a_wait():
    handed = make_batch(noise(), THERE, Views(strong=2), BatchConfig(**SIZES), 0, 3, as_bytes=True)
    with fake_cuda() as seen:
        handed.to("cuda").numbers(CFG.mean, CFG.std)  # once, to copy mean and deviation
        seen.reset()
        batch = handed.to("cuda", channels_last=True).numbers(CFG.mean, CFG.std)
    assert not seen.waits, seen.table()
    assert not batch.colours_l and not batch.colours_u
    plain = handed.numbers(CFG.mean, CFG.std)
    for a, b in zip(batch.images_u_s, plain.images_u_s):
        assert torch.equal(a.elem, b)


def test_loader__draws_the_same_wherever_the_colours_are_changed():
    for step in range(6):
        batches = [
            make_batch(
                noise(), cfg, Views(strong=2), BatchConfig(**SIZES), 0, step, as_bytes=True
            ).recoloured()
            for cfg in (THERE, HERE)
        ]
        for name in ("images_u_w", "targets_l", "valid_u"):
            assert torch.equal(*(getattr(b, name) for b in batches))
        pairs = zip(*([b.images_l, *b.images_u_s] for b in batches))
        assert all(nearly_equal(*pair) for pair in pairs)


def test_loader__hands_over_no_strong_view_of_its_own():
    handed = make_batch(noise(), THERE, Views(strong=2), BatchConfig(**SIZES), 0, 0, as_bytes=True)
    assert all(x is handed.images_u_w for x in handed.images_u_s)
    assert [len(c) for c in handed.colours_u] == [4, 4] and len(handed.colours_l) == 3
    weak = make_batch(noise(), THERE, Views(strong=0), BatchConfig(**SIZES), 0, 0)
    assert weak.images_u_s == [] and torch.equal(
        weak.images_u_w, handed.numbers(CFG.mean, CFG.std).images_u_w
    )
    none = make_batch(noise(), THERE, Views(strong=1), BatchConfig(labelled=3, unlabelled=0), 0, 0)
    assert none.images_u_s[0].shape == (0, 3, 20, 20)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_loader__gives_the_same_batches_for_any_number_of_workers(workers):
    sizes = BatchConfig(**SIZES, workers=workers)
    expected = [
        make_batch(noise(), THERE, Views(strong=2), BatchConfig(**SIZES), 0, step) for step in (1, 2, 3)
    ]
    found = list(make_loader(noise(), THERE, Views(strong=2), sizes, 0, 1, 4))
    assert len(found) == 3 and all(map(is_same, found, expected))


@pytest.mark.parametrize(
    "asked, device, want",
    [
        ("auto", "cpu", "off"),
        ("auto", "cuda:1", "on"),
        ("auto", "mps", "off"),
        ("on", "cpu", "on"),
        ("off", "cuda", "off"),
    ],
)
def test_settled__auto_is_on_where_the_device_is_a_gpu(asked, device, want):
    assert ViewConfig(device=asked).settled(device).device == want


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            t.control.stop()


def test_run__resumes_to_the_bit_and_says_where_colours_were_changed(tmp_path):
    settings = dict(steps=6, views__device="on", views__strong_labelled=True, loop__checkpoints=2)
    whole = tmp_path / "whole"
    fit(tiny_run("self_training", out=whole, **settings), callbacks=[])
    assert json.loads((whole / "config.json").read_text())["effective"]["views_on_device"] is True
    parts = tmp_path / "parts"
    with pytest.raises(Stopped):
        fit(tiny_run("self_training", out=parts, **settings), callbacks=[StopAfter(3)])
    fit(tiny_run("self_training", out=parts, resume=True, **settings), callbacks=[])
    assert equal_states(state_of(whole), state_of(parts))


def test_run__is_known_by_the_key_it_had_before():
    assert ADDED["views.device"] == ViewConfig().device == "off"
    run = tiny_run("self_training")
    there = dataclasses.replace(run, views=dataclasses.replace(run.views, device="on"))
    assert key_of(run) != key_of(there)
