"""Whole images in small maps: which pixel and which cell is shown, padding, what a method keeps of them."""

import numpy as np
import pytest
import torch
from small import NOW, small_method
from sync_gate import ROOT

from dgcl_nb.config import METHODS, build_data, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.data.segdata import SegData
from dgcl_nb.evaluation import eval_mode
from dgcl_nb.look import look_at, take_snapshot
from dgcl_nb.methods.protocol import SemiConfig
from dgcl_nb.pseudo_labels import FilterConfig, most_probable
from dgcl_nb.snapshots import MAX_BYTES, load_snapshot, save_snapshot
from dgcl_nb.views import ViewConfig, normalize
from dgcl_nb.whole_images import (
    LOOKED_THROUGH,
    MOST_PIXELS,
    SIDES,
    at_pixels,
    pick_probes,
    places,
    shown_size,
    side_for,
    take_probes,
)
from dgcl_nb.windows import EvalConfig, predict_labels

CPU, VIEWS = torch.device("cpu"), ViewConfig()
SLIDE = EvalConfig(mode="slide", crop=64, stride=0.5)
NAMES = ("sky", "road", "tree", "car")


def photograph(height, width, seed):
    "Noise, and four classes in stripes, of which the first rows are not known."
    gen = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=gen, dtype=torch.uint8)
    target = (torch.arange(width) // 20 % 4).repeat(height, 1)
    target[:8] = IGNORE_INDEX
    return dict(image=image, target=target, id=f"photo-{seed}")


PHOTOS = [photograph(200, 260, 0), photograph(260, 150, 1), photograph(200, 260, 2), photograph(40, 30, 3)]


def data_of(photos):
    return SegData("photos", photos, photos, photos, 4, NAMES, np.zeros((4, 3), np.uint8))


@pytest.mark.parametrize("num", [1, 2, 7, 8, 50])
def test_side__keeps_all_images_within_their_pixels(num):
    side = side_for(num)
    assert num * side**2 <= max(MOST_PIXELS, num * SIDES[-1] ** 2)
    assert shown_size((64, 64), side) == (64, 64)  # digits are never scaled


@pytest.mark.parametrize("num, whole", [(1, 1), (3, 1000), (111, 480), (160, 2048), (64, 64), (7, 7_000_001)])
def test_places__lie_in_the_middle_of_their_parts(num, whole):
    found = places(num, whole)
    assert ((found >= 0) & (found < whole)).all()
    assert (found.diff() > 0).all()
    assert (found + 0.5 - (torch.arange(num) + 0.5) * whole / num).abs().max() <= 1


@pytest.mark.parametrize("cfg", [EvalConfig(), SLIDE, EvalConfig(flip=True, scales=(0.75, 1.0))], ids=str)
@pytest.mark.parametrize("name", ["dgcl", "cps"])
def test_look__shows_what_an_evaluation_says_of_the_pixel(name, cfg):
    method, probes = small_method(METHODS[name]), take_probes(PHOTOS, range(4))
    seen = look_at(method, probes, VIEWS, cfg, NOW, CPU)
    predictor = next(iter(method.scored().values()))
    assert method.training
    for i, sample in enumerate(probes.samples):
        with torch.no_grad(), eval_mode(method):
            image = normalize(sample["image"][None], VIEWS.mean, VIEWS.std)
            said = predict_labels(predictor, image, cfg)[0]
        rows, cols = probes.shown[i]
        assert torch.equal(seen.prediction[i, :rows, :cols], at_pixels(said, (rows, cols)))
        assert torch.equal(probes.targets()[i, :rows, :cols], at_pixels(sample["target"], (rows, cols)))
    beyond = ~probes.inside()
    assert beyond.any()
    for labels in (seen.prediction, seen.pseudo.labels, probes.targets()):
        assert (labels[beyond] == IGNORE_INDEX).all()
    assert not seen.kept[beyond].any()
    assert not seen.pseudo.confidence[beyond].any()


def test_look__changes_nothing_and_draws_nothing():
    method, probes = small_method(METHODS["dgcl"]), take_probes(PHOTOS, range(4))
    before = {name: x.clone() for name, x in method.state_dict().items()}
    drawn = torch.get_rng_state()
    look_at(method, probes, VIEWS, SLIDE, NOW, CPU)
    assert torch.equal(drawn, torch.get_rng_state())
    for name, x in method.state_dict().items():
        torch.testing.assert_close(x, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["dgcl", "supervised"])
def test_snapshot__of_photographs_is_whole_small_and_says_so(name, tmp_path):
    photos = [photograph(480, 640, i) for i in range(6)] + [photograph(640, 480, i) for i in range(6, 8)]
    method = small_method(METHODS[name])
    snap = take_snapshot(method, data_of(photos), VIEWS, EvalConfig(), range(8), NOW, 30, CPU)
    path = save_snapshot(tmp_path, snap)
    assert path.stat().st_size <= MAX_BYTES
    back = load_snapshot(path)
    assert len(back.image_id) == 8  # none had to be left out
    assert back.image_size.tolist() == [[480, 640]] * 6 + [[640, 480]] * 2
    assert back.shown_size.tolist() == [[80, 106]] * 6 + [[106, 80]] * 2
    assert back.protocol.startswith("whole images, original resolution")
    inside = back.prediction != IGNORE_INDEX
    for shown, (rows, cols) in zip(inside, back.shown_size):
        assert shown[:rows, :cols].all() and shown.sum() == rows * cols
    cell = back.image.shape[1] / back.density.shape[1]
    assert cell >= 4
    last = (back.pixel_row * cell < back.shown_size[back.pixel_image, 0]).all()
    assert last, "a sampled cell lies beyond its image"


def test_probes__without_a_mask_of_their_size_are_refused():
    sample = PHOTOS[0] | dict(target=PHOTOS[1]["target"])
    with pytest.raises(InputError, match="image 'photo-0' is 200×260 and its mask 260×150 pixels"):
        take_probes([sample], [0])


@pytest.mark.parametrize("name", ["digits", "digits-tune"])
def test_probes__of_a_preset_cover_all_classes(name):
    run = parse_run(["--preset", name, "--data.root", str(ROOT / "data"), "--device", "cpu"])
    data = build_data(run)
    first = range(run.loop.num_probes)
    picked = pick_probes(data.val, run.loop.num_probes, data.num_classes)

    def shown(chosen):
        return set(take_probes(data.val, chosen).targets().unique().tolist()) - {IGNORE_INDEX}

    assert len(shown(first)) < data.num_classes, "the first ones lack a class"
    assert shown(picked) == set(range(data.num_classes))
    assert len(picked) == len(set(picked)) == len(first) and picked == sorted(picked)


def test_probes__few_images_are_read():
    class Counted(list):
        reads = 0

        def __getitem__(self, i):
            self.reads += 1
            return super().__getitem__(i)

    whole, lacking = (Counted(PHOTOS * 100) for _ in range(2))
    assert pick_probes(whole, 2, 4) == [0, 1] and whole.reads == 2
    assert pick_probes(lacking, 2, 5) == [0, 1] and lacking.reads == LOOKED_THROUGH


def answers(shape=(2, 16, 16)):
    "What a network may say, some of it certain, and a part that lies beyond the images."
    gen = torch.Generator().manual_seed(1)
    logits = 6 * torch.randn(shape[0], 4, *shape[1:], generator=gen)
    valid = torch.ones(shape, dtype=torch.bool)
    valid[:, :4] = False
    return most_probable(logits.softmax(1)), valid


OWN_THRESHOLDS = ("cutmix", "fixmatch", "unimatch", "ps_mt", "pcr", "cct")


@pytest.mark.parametrize("name", OWN_THRESHOLDS)
def test_kept__is_what_the_own_threshold_lets_through(name):
    cls, (pseudo, valid) = METHODS[name], answers()
    method = small_method(cls, **{name: cls.settings[name](conf_thresh=0.8)})
    kept = method.kept(pseudo, valid, NOW)
    assert torch.equal(kept, valid & (pseudo.confidence >= 0.8))
    assert 0 < kept.sum() < valid.sum()


@pytest.mark.parametrize("name", ["supervised", "mean_teacher", "cps"])
def test_kept__is_everything_where_nothing_filters(name):
    pseudo, valid = answers()
    assert torch.equal(small_method(METHODS[name]).kept(pseudo, valid, NOW), valid)


def test_kept__gta_seg_leaves_out_the_least_confident():
    cls, (pseudo, valid) = METHODS["gta_seg"], answers()
    method = small_method(
        cls,
        gta_seg=cls.settings["gta_seg"](drop_percent=30.0),
        semi=SemiConfig(filter=FilterConfig(kind="none")),
    )
    kept = method.kept(pseudo, valid, NOW)
    assert abs(kept.sum() / valid.sum() - 0.7) < 0.02
    assert pseudo.confidence[kept].min() >= pseudo.confidence[valid & ~kept].max()


@pytest.mark.parametrize("name", ["self_training", "dgcl", "u2pl"])
def test_kept__is_the_shared_filter_elsewhere(name):
    pseudo, valid = answers()
    semi = SemiConfig(filter=FilterConfig(kind="confidence", conf_thresh=0.7))
    kept = small_method(METHODS[name], semi=semi).kept(pseudo, valid, NOW)
    assert torch.equal(kept, valid & (pseudo.confidence >= 0.7))
