"""Batches are functions of (seed, step): over processes, workers, threads and restarts."""
import types

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dgcl_nb.batches import BatchConfig, draw_indices, make_batch, make_loader
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.views import ViewConfig, Views


class Noise(Dataset):
    "Random pictures; without `targets` they are unlabelled."
    def __init__(self, name, num, size=24, targets=True, broken=False):
        g = torch.Generator().manual_seed(num)
        self.ids, self.broken = [f"{name}-{i}" for i in range(num)], broken
        self.images = torch.randint(0, 256, (num, 3, size, size), dtype=torch.uint8, generator=g)
        self.targets = torch.randint(0, 5, (num, size, size), generator=g) if targets else [None] * num

    def __len__(self): return len(self.ids)

    def __getitem__(self, i):
        if self.broken: raise InputError(f"{self.ids[i]}.png is truncated; replace it")
        return dict(image=self.images[i], target=self.targets[i], id=self.ids[i])


def noise(labelled=10, unlabelled=33, **keywords):
    return types.SimpleNamespace(labelled=Noise("l", labelled), unlabelled=Noise("u", unlabelled, **keywords))


CFG, SIZES = ViewConfig(crop=20), dict(labelled=3, unlabelled=4)


def tensors(batch): return [batch.images_l, batch.targets_l, batch.images_u_w, *batch.images_u_s, batch.valid_u, batch.truth_u]


def is_same(a, b): return a.ids_l == b.ids_l and a.ids_u == b.ids_u and all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b)))


@pytest.mark.parametrize("num_images, batch_size, world", [(10, 3, 1), (10, 3, 2), (4, 7, 1), (1, 2, 3), (33, 4, 2)])
def test_draw_indices__each_epoch_shows_each_image_once(num_images, batch_size, world):
    draws = [d for step in range(80) for rank in range(world) for d in draw_indices(num_images, batch_size, step, 0, "unlabelled", rank, world)]
    assert [g for _, g in draws] == list(range(len(draws)))
    for start in range(0, len(draws) - num_images + 1, num_images): assert sorted(i for i, _ in draws[start:start + num_images]) == list(range(num_images))


def test_draw_indices__streams_and_seeds_differ():
    orders = {tuple(i for i, _ in draw_indices(50, 50, 0, seed, stream)) for seed in range(3) for stream in ("labelled", "unlabelled")}
    assert len(orders) == 6


@pytest.mark.parametrize("num_threads", [1, 2])
def test_loader__workers_do_not_change_a_bit(num_threads):
    before = torch.get_num_threads(); torch.set_num_threads(num_threads)
    try:
        data = noise(targets=False)
        alone, helped = (list(make_loader(data, CFG, Views(strong=2), BatchConfig(**SIZES, workers=w), 0, 2, 8)) for w in (0, 2))
        assert torch.get_num_threads() == num_threads
    finally: torch.set_num_threads(before)
    assert len(alone) == len(helped) == 6 and all(map(is_same, alone, helped))


@pytest.mark.parametrize("workers", [0, 1])
def test_loader__goes_on_where_it_stopped(workers):
    data = noise()
    load = lambda start: list(make_loader(data, CFG, Views(), BatchConfig(**SIZES, workers=workers), 7, start, 12))
    assert all(map(is_same, load(0)[9:], load(9)))


def test_batch__threads_do_not_change_a_bit_of_a_large_view():
    data, before = noise(2, 2, size=300), torch.get_num_threads()
    batches = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        batches.append(make_batch(data, ViewConfig(crop=256, blur_prob=1, jitter_prob=1), Views(), BatchConfig(labelled=1, unlabelled=1), 0, 0))
    torch.set_num_threads(before)
    assert is_same(*batches)


def test_batch__two_processes_show_what_one_would():
    data = noise()
    one = make_batch(data, CFG, Views(), BatchConfig(labelled=4, unlabelled=6), 0, 5)
    two = [make_batch(data, CFG, Views(), BatchConfig(labelled=2, unlabelled=3), 0, 5, rank=r, world=2) for r in range(2)]
    assert one.ids_l == two[0].ids_l + two[1].ids_l and one.ids_u == two[0].ids_u + two[1].ids_u
    assert all(torch.equal(whole, torch.cat(parts)) for whole, *parts in zip(tensors(one), *map(tensors, two)))


def test_batch__leaves_the_global_generator_alone():
    torch.manual_seed(3); expected = torch.rand(2)
    torch.manual_seed(3); make_batch(noise(), CFG, Views(), BatchConfig(**SIZES), 0, 0)
    assert torch.equal(torch.rand(2), expected)


def test_loader__workers_hand_over_bytes_and_the_loader_makes_the_numbers():
    data, sizes = noise(), BatchConfig(**SIZES, workers=1)
    loader = make_loader(data, CFG, Views(strong=2), sizes, 0, 0, 2)
    handed = list(DataLoader.__iter__(loader))
    assert {x.dtype for b in handed for x in tensors(b)} == {torch.uint8, torch.bool}
    expected = [make_batch(data, CFG, Views(strong=2), sizes, 0, step) for step in (0, 1)]
    assert all(map(is_same, [b.numbers(CFG.mean, CFG.std) for b in handed], expected)) and all(map(is_same, loader, expected))
    assert {x.dtype for x in tensors(expected[0])} == {torch.float32, torch.int64, torch.bool}


def test_batch__strong_views_without_colours_are_one_tensor_until_they_are_numbers():
    plain = ViewConfig(crop=20, jitter_prob=0, grey_prob=0, blur_prob=0)
    handed = make_batch(noise(), plain, Views(strong=2), BatchConfig(**SIZES), 0, 0, as_bytes=True)
    assert all(x is handed.images_u_w for x in handed.images_u_s)
    made = handed.numbers(plain.mean, plain.std)
    made.images_u_s[0].zero_()
    assert torch.equal(made.images_u_s[1], made.images_u_w) and made.images_u_w.abs().sum() > 0


def test_batch__does_not_depend_on_the_global_generator():
    data, batches = noise(), []
    for seed in (1, 2): torch.manual_seed(seed); batches.append(make_batch(data, CFG, Views(), BatchConfig(**SIZES), 0, 4))
    assert is_same(*batches)


def test_batch__weak_views_are_the_same_for_all_methods():
    data = noise()
    few, many = (make_batch(data, CFG, Views(strong=n), BatchConfig(**SIZES), 0, 4) for n in (0, 3))
    assert few.images_u_s == [] and len(many.images_u_s) == 3
    assert torch.equal(few.images_u_w, many.images_u_w) and torch.equal(few.images_l, many.images_l)
    assert not torch.equal(many.images_u_s[0], many.images_u_s[1])


def test_batch__an_image_drawn_again_gets_another_view():
    data = noise(1, 1)
    batch = make_batch(data, CFG, Views(), BatchConfig(**SIZES), 0, 0)
    assert set(batch.ids_l) == {"l-0"} and not torch.equal(batch.images_l[0], batch.images_l[1])


def test_batch__without_unlabelled_images():
    batch = next(iter(make_loader(noise(10, 0), CFG, Views(strong=2), BatchConfig(labelled=3, unlabelled=0), 0, 0, 1)))
    assert batch.ids_u == [] and [x.shape for x in batch.images_u_s] == [(0, 3, 20, 20)] * 2
    assert batch.valid_u.shape == batch.truth_u.shape == (0, 20, 20) and batch.valid_u.dtype == torch.bool
    assert batch.images_l.shape == (3, 3, 20, 20) and batch.to("cpu", channels_last=True).images_u_w.shape == (0, 3, 20, 20)


def test_batch__unlabelled_without_masks():
    batch = make_batch(noise(targets=False), ViewConfig(crop=20, scale=(1, 1)), Views(), BatchConfig(**SIZES), 0, 0)
    assert (batch.truth_u == IGNORE_INDEX).all() and batch.valid_u.all()


def test_batch__of_one_and_one():
    batch = make_batch(noise(), CFG, Views(), BatchConfig(labelled=1, unlabelled=1), 0, 0)
    assert batch.images_l.shape == batch.images_u_s[0].shape == (1, 3, 20, 20)


def test_batch__crop_larger_than_image():
    batch = make_batch(noise(), ViewConfig(crop=40, scale=(1, 1)), Views(), BatchConfig(**SIZES), 0, 0)
    assert batch.images_u_w.shape == (4, 3, 40, 40) and (batch.valid_u.flatten(1).sum(1) == 24 * 24).all()
    assert torch.equal(batch.truth_u == IGNORE_INDEX, ~batch.valid_u)


@pytest.mark.parametrize("workers", [0, 1])
def test_loader__error_of_an_image_arrives_as_it_was(workers):
    loader = make_loader(noise(broken=True), CFG, Views(), BatchConfig(**SIZES, workers=workers), 0, 0, 2)
    with pytest.raises(InputError, match=r"^u-\d+\.png is truncated; replace it$"): next(iter(loader))


def test_loader__empty_list_is_refused_at_once():
    with pytest.raises(InputError, match="the unlabelled list is empty, but 4 .* set batch.unlabelled = 0"):
        make_loader(noise(10, 0), CFG, Views(), BatchConfig(**SIZES), 0, 0, 2)


def test_loader__nothing_left_to_do():
    loader = make_loader(noise(), CFG, Views(), BatchConfig(**SIZES), 0, 5, 5)
    assert len(loader) == 0 and list(loader) == []


@pytest.mark.parametrize("setting", [dict(labelled=0), dict(unlabelled=-1), dict(workers=-1)])
def test_config__refuses(setting):
    with pytest.raises(InputError, match=f"batch.{next(iter(setting))} is"): BatchConfig(**setting)
