"""Batches are functions of (seed, step): over processes, workers, threads and restarts."""

import dataclasses
import types

import pytest
import torch
from fakecuda import fake_cuda
from torch.utils.data import DataLoader, Dataset

from dgcl_nb.batches import Batch, BatchConfig, draw_indices, make_batch, make_loader
from dgcl_nb.core import IGNORE_INDEX, InputError, generator_for
from dgcl_nb.run_folder import read_torch, write_torch
from dgcl_nb.views import CutMix, ViewConfig, Views, cutmix_boxes


class Noise(Dataset):
    "Random pictures; without `targets` they are unlabelled."

    def __init__(self, name, num, size=24, targets=True, broken=False):
        g = torch.Generator().manual_seed(num)
        self.ids, self.broken = [f"{name}-{i}" for i in range(num)], broken
        self.images = torch.randint(0, 256, (num, 3, size, size), dtype=torch.uint8, generator=g)
        self.targets = torch.randint(0, 5, (num, size, size), generator=g) if targets else [None] * num

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        if self.broken:
            raise InputError(f"{self.ids[i]}.png is truncated; replace it")
        return dict(image=self.images[i], target=self.targets[i], id=self.ids[i])


def noise(labelled=10, unlabelled=33, **keywords):
    return types.SimpleNamespace(labelled=Noise("l", labelled), unlabelled=Noise("u", unlabelled, **keywords))


CFG, ONE, SIZES = ViewConfig(crop=20), Views(), dict(labelled=3, unlabelled=4)


def tensors(batch):
    "What a batch holds of its images; not the boxes of CutMix, which belong to the process."
    labelled = [batch.images_l, batch.targets_l]
    return [*labelled, batch.images_u_w, *batch.images_u_s, batch.valid_u, batch.truth_u]


def boxes(batch):
    return [x for mix in batch.mixes for x in (mix.inside, mix.partner)]


def is_same(a, b):
    mine, theirs = tensors(a) + boxes(a), tensors(b) + boxes(b)
    are_equal = len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))
    return are_equal and a.ids_l == b.ids_l and a.ids_u == b.ids_u


def load(data, start, steps, views=ONE, workers=0, seed=0):
    "All batches of a loader."
    return list(make_loader(data, CFG, views, BatchConfig(**SIZES, workers=workers), seed, start, steps))


def batch_of(data, view_cfg=CFG, views=ONE, step=0, seed=0, **more):
    return make_batch(data, view_cfg, views, BatchConfig(**SIZES), seed, step, **more)


LISTS = [(10, 3, 1), (10, 3, 2), (4, 7, 1), (1, 2, 3), (33, 4, 2)]


@pytest.mark.parametrize("num_images, batch_size, world", LISTS)
def test_draw_indices__each_epoch_shows_each_image_once(num_images, batch_size, world):
    draws = []
    for step in range(80):
        for rank in range(world):
            draws += draw_indices(num_images, batch_size, step, 0, "unlabelled", rank, world)
    assert [g for _, g in draws] == list(range(len(draws)))
    for start in range(0, len(draws) - num_images + 1, num_images):
        assert sorted(i for i, _ in draws[start : start + num_images]) == list(range(num_images))


def test_draw_indices__streams_and_seeds_differ():
    orders = set()
    for seed in range(3):
        for stream in ("labelled", "unlabelled"):
            orders.add(tuple(i for i, _ in draw_indices(50, 50, 0, seed, stream)))
    assert len(orders) == 6


@pytest.mark.parametrize("num_threads", [1, 2])
def test_loader__workers_do_not_change_a_bit(num_threads):
    data, before = noise(targets=False), torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        alone, helped = (load(data, 2, 8, Views(strong=2), workers=w) for w in (0, 2))
        assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert len(alone) == len(helped) == 6 and all(map(is_same, alone, helped))


@pytest.mark.parametrize("workers", [0, 1])
def test_loader__goes_on_where_it_stopped(workers):
    data = noise()
    whole, rest = (load(data, start, 12, workers=workers, seed=7) for start in (0, 9))
    assert all(map(is_same, whole[9:], rest))


def test_batch__threads_do_not_change_a_bit_of_a_large_view():
    data, before = noise(2, 2, size=300), torch.get_num_threads()
    large, sizes = ViewConfig(crop=256, blur_prob=1, jitter_prob=1), BatchConfig(labelled=1, unlabelled=1)
    batches = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        batches.append(make_batch(data, large, Views(), sizes, 0, 0))
    torch.set_num_threads(before)
    assert is_same(*batches)


def test_batch__two_processes_show_what_one_would():
    data = noise()
    one = make_batch(data, CFG, Views(), BatchConfig(labelled=4, unlabelled=6), 0, 5)
    half = BatchConfig(labelled=2, unlabelled=3)
    two = [make_batch(data, CFG, Views(), half, 0, 5, rank=r, world=2) for r in range(2)]
    assert one.ids_l == two[0].ids_l + two[1].ids_l and one.ids_u == two[0].ids_u + two[1].ids_u
    for whole, *parts in zip(tensors(one), *map(tensors, two)):
        assert torch.equal(whole, torch.cat(parts))


def test_batch__leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    batch_of(noise(), views=Views(strong=2))
    assert torch.equal(torch.rand(2), expected)


def test_loader__workers_hand_over_bytes_and_the_loader_makes_the_numbers():
    data, sizes = noise(), BatchConfig(**SIZES, workers=1)
    loader = make_loader(data, CFG, Views(strong=2), sizes, 0, 0, 2)
    handed = list(DataLoader.__iter__(loader))
    assert {x.dtype for b in handed for x in tensors(b)} == {torch.uint8, torch.bool}
    expected = [make_batch(data, CFG, Views(strong=2), sizes, 0, step) for step in (0, 1)]
    assert all(map(is_same, [b.numbers(CFG.mean, CFG.std) for b in handed], expected))
    assert all(map(is_same, loader, expected))
    assert {x.dtype for x in tensors(expected[0])} == {torch.float32, torch.int64, torch.bool}


PLAIN = ViewConfig(crop=20, jitter_prob=0, grey_prob=0, blur_prob=0)
"Views without colours."


def test_batch__strong_views_without_colours_are_one_tensor():
    handed = batch_of(noise(), PLAIN, Views(strong=2), as_bytes=True)
    moved = handed.to("cpu", channels_last=True)
    for batch in (handed, moved, moved.numbers(PLAIN.mean, PLAIN.std), handed.map(torch.clone)):
        assert all(x is batch.images_u_w for x in batch.images_u_s)
    assert handed.map(torch.clone).images_u_w is not handed.images_u_w


def test_batch__each_tensor_is_converted_once():
    handed, seen = batch_of(noise(), PLAIN, Views(strong=2), as_bytes=True), []

    def note(x):
        seen.append(id(x))
        return x

    handed.map(note)
    # two images, two targets, which pixels count, and boxes and partners of two views
    assert len(seen) == len(set(seen)) == 9


@pytest.mark.parametrize("workers", [0, 1])
def test_loader__one_tensor_stays_one_on_its_way(workers):
    sizes = BatchConfig(**SIZES, workers=workers)
    batch = next(iter(make_loader(noise(), PLAIN, Views(strong=2), sizes, 0, 0, 1)))
    assert batch.images_u_s[0] is batch.images_u_s[1] is batch.images_u_w
    assert batch.images_u_w.dtype == torch.float32


def test_batch__does_not_depend_on_the_global_generator():
    data, batches = noise(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        batches.append(batch_of(data, step=4))
    assert is_same(*batches)


def test_batch__weak_views_are_the_same_for_all_methods():
    data = noise()
    few, many = (batch_of(data, views=Views(strong=n), step=4) for n in (0, 3))
    assert few.images_u_s == [] and len(many.images_u_s) == 3
    assert torch.equal(few.images_u_w, many.images_u_w) and torch.equal(few.images_l, many.images_l)
    assert not torch.equal(many.images_u_s[0], many.images_u_s[1])


def test_batch__an_image_drawn_again_gets_another_view():
    data = noise(1, 1)
    batch = batch_of(data)
    assert set(batch.ids_l) == {"l-0"} and not torch.equal(batch.images_l[0], batch.images_l[1])


def test_batch__without_unlabelled_images():
    sizes = BatchConfig(labelled=3, unlabelled=0)
    batch = next(iter(make_loader(noise(10, 0), CFG, Views(strong=2), sizes, 0, 0, 1)))
    moved = batch.to("cpu", channels_last=True)
    assert batch.ids_u == [] and [x.shape for x in batch.images_u_s] == [(0, 3, 20, 20)] * 2
    assert batch.valid_u.shape == batch.truth_u.shape == (0, 20, 20) and batch.valid_u.dtype == torch.bool
    assert batch.images_l.shape == (3, 3, 20, 20) and moved.images_u_w.shape == (0, 3, 20, 20)
    assert [mix.inside.shape for mix in batch.mixes] == [(0, 20, 20)] * 2
    assert torch.equal(batch.mixes[0].mix(batch.images_u_s[0]), batch.images_u_s[0])


def test_batch__unlabelled_without_masks():
    batch = batch_of(noise(targets=False), ViewConfig(crop=20, scale=(1, 1)))
    assert (batch.truth_u == IGNORE_INDEX).all() and batch.valid_u.all()


def test_batch__of_one_and_one():
    batch = make_batch(noise(), CFG, Views(), BatchConfig(labelled=1, unlabelled=1), 0, 0)
    assert batch.images_l.shape == batch.images_u_s[0].shape == (1, 3, 20, 20)
    assert not batch.mixes[0].is_active and "two unlabelled images" in batch.mixes[0].inactive


def test_batch__crop_larger_than_image():
    batch = batch_of(noise(), ViewConfig(crop=40, scale=(1, 1)))
    assert batch.images_u_w.shape == (4, 3, 40, 40) and (batch.valid_u.flatten(1).sum(1) == 24 * 24).all()
    assert torch.equal(batch.truth_u == IGNORE_INDEX, ~batch.valid_u)


def boxes_at(**place):
    "The boxes of two strong views, all of them drawn."
    cfg = ViewConfig(crop=20, cutmix_prob=1)
    return [mix.inside for mix in batch_of(noise(), cfg, Views(strong=2), **place).mixes]


def test_mixes__are_a_function_of_seed_step_process_and_view():
    first, second = boxes_at(step=3)
    assert all(map(torch.equal, boxes_at(step=3), (first, second)))
    # with gradients accumulated over two batches, optimiser step 1 sees the loader's steps 2 and 3
    others = [boxes_at(step=2), boxes_at(step=3, seed=1), boxes_at(step=3, rank=1, world=2)]
    different = [first, second, *(x for pair in others for x in pair)]
    for i, one in enumerate(different):
        assert not any(torch.equal(one, other) for other in different[i + 1 :])


def test_mixes__do_not_depend_on_the_images_or_on_what_was_drawn_before():
    cfg, boxes_seen = ViewConfig(crop=20, cutmix_prob=1), []
    for data in (noise(), noise(5, 7, targets=False)):
        torch.rand(3)
        boxes_seen.append(batch_of(data, cfg, step=9).mixes[0])
    assert torch.equal(boxes_seen[0].inside, boxes_seen[1].inside)
    alone = cutmix_boxes(SIZES["unlabelled"], 20, 20, cfg, generator_for(0, "mix", 9, 0, 0))
    assert torch.equal(boxes_seen[0].inside, alone.inside)


def test_mixes__are_drawn_for_half_of_the_batches_and_say_why_not():
    mixes = [batch_of(noise(), step=step).mixes[0] for step in range(40)]
    idle = [mix for mix in mixes if not mix.is_active]
    assert 10 < len(idle) < 30 and {mix.inactive for mix in idle} == {"not drawn for this batch"}


def test_mixes__none_where_the_method_asks_for_none():
    assert batch_of(noise(), views=Views(strong=2, cutmix=False)).mixes == []
    assert batch_of(noise(), views=Views(strong=0)).mixes == []


def test_mixes__follow_the_rule_of_the_method():
    def swapped(num_images, height, width, cfg, generator):
        "Everything of the image before."
        partner = torch.arange(num_images).roll(1)
        return CutMix(torch.ones(num_images, height, width, dtype=torch.bool), partner)

    batch = batch_of(noise(), views=Views(boxes=swapped))
    assert torch.equal(batch.mixes[0].mix(batch.images_u_w), batch.images_u_w.roll(1, 0))


def test_mixes__move_with_their_batch_and_keep_their_types():
    batch = batch_of(noise(), ViewConfig(crop=20, cutmix_prob=1), as_bytes=True)
    moved = batch.to("meta").mixes[0]
    assert moved.inside.device.type == moved.partner.device.type == "meta"
    mix = batch.numbers(CFG.mean, CFG.std).mixes[0]
    assert mix.inside.dtype == torch.bool and mix.partner.dtype == torch.int64
    assert mix.mix(batch.images_u_w).shape == batch.images_u_w.shape


def test_batch__does_not_make_a_gpu_wait():
    handed = batch_of(noise(), ViewConfig(crop=20, cutmix_prob=1), Views(strong=2), as_bytes=True)
    with fake_cuda() as seen:
        handed.to("cuda").numbers(CFG.mean, CFG.std)  # once, to copy mean and deviation
        seen.reset()
        batch = handed.to("cuda", channels_last=True).numbers(CFG.mean, CFG.std)
        mixed = [mix.mix(x) for mix, x in zip(batch.mixes, batch.images_u_s)]
        batch.mixes[0].mix(batch.truth_u)
    assert not seen.waits, seen.table()
    plain = handed.numbers(CFG.mean, CFG.std)
    expected = [mix.mix(x) for mix, x in zip(plain.mixes, plain.images_u_s)]
    assert all(torch.equal(a.elem, b) for a, b in zip(mixed, expected))


def test_mixes__are_saved_with_a_broken_batch_as_plain_tensors(tmp_path):
    batch = batch_of(noise(), ViewConfig(crop=20, cutmix_prob=1), Views(strong=2))
    write_torch(tmp_path / "broken.pt", dict(batch=dataclasses.asdict(batch)))
    read = read_torch(tmp_path / "broken.pt")["batch"]  # refuses all but tensors and plain values
    assert [set(mix) for mix in read["mixes"]] == [{"inside", "partner", "inactive"}] * 2
    again = Batch(**read | dict(mixes=[CutMix(**mix) for mix in read["mixes"]]))
    assert is_same(again, batch)


@pytest.mark.parametrize("workers", [0, 1])
def test_loader__error_of_an_image_arrives_as_it_was(workers):
    loader = make_loader(noise(broken=True), CFG, Views(), BatchConfig(**SIZES, workers=workers), 0, 0, 2)
    with pytest.raises(InputError, match=r"^u-\d+\.png is truncated; replace it$"):
        next(iter(loader))


def test_loader__empty_list_is_refused_at_once():
    with pytest.raises(InputError, match="the unlabelled list is empty, but 4 .* set batch.unlabelled = 0"):
        make_loader(noise(10, 0), CFG, Views(), BatchConfig(**SIZES), 0, 0, 2)


def test_loader__nothing_left_to_do():
    loader = make_loader(noise(), CFG, Views(), BatchConfig(**SIZES), 0, 5, 5)
    assert len(loader) == 0 and list(loader) == []


@pytest.mark.parametrize("setting", [dict(labelled=0), dict(unlabelled=-1), dict(workers=-1)])
def test_config__refuses(setting):
    with pytest.raises(InputError, match=f"batch.{next(iter(setting))} is"):
        BatchConfig(**setting)
