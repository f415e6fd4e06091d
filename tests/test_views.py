"""What the notebook of views does not show: agreement with slow references, and odd sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as VF

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.views import (
    Crop,
    CutMix,
    ViewConfig,
    Views,
    cutmix_boxes,
    draw_crop,
    nearest_places,
    normalize,
    read_crop,
    strong_view,
    weak_view,
)


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_image(height=64, width=64, seed=0):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator(seed))


def spaced(image):
    "The same pixels as a file's image has them: four bytes apart, the last of them anything."
    spare = torch.randint(0, 256, (1, *image.shape[1:]), dtype=torch.uint8, generator=generator(9))
    return torch.cat([image, spare]).permute(1, 2, 0).contiguous().permute(2, 0, 1)[:3]


@pytest.mark.parametrize("seed", range(24))
def test_read_crop__is_the_same_however_the_pixels_lie(seed):
    torch.manual_seed(seed)
    height, width = (1, 7) if seed == 0 else torch.randint(1, 60, (2,)).tolist()
    image, cfg = random_image(height, width, seed), ViewConfig(crop=40, scale=(0.3, 2.5), flip=True)
    crop = draw_crop(height, width, cfg) if seed % 4 else Crop(height, width, 0, 0, seed % 8 == 0)
    rows, columns = crop.place(40)
    size, top, left = (crop.height, crop.width), crop.top + rows.start, crop.left + columns.start
    shown = VF.resize_image(image, list(size))
    shown = shown[:, top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
    expected = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None].repeat(1, 40, 40)
    expected[:, rows, columns] = shown
    expected = expected.flip(-1) if crop.flip else expected
    last = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for lying in (image, last, spaced(image)):
        assert torch.equal(read_crop(lying, crop, 40, fill=[1, 2, 3]), expected)


def slow_crop(x, crop, side, fill):
    "The nearest-exact view of (H, W) numbers, pixel by pixel."
    out, (H, W) = torch.full((side, side), fill), x.shape
    for i in range(side):
        for j in range(side):
            y, col = i + crop.top, (side - 1 - j if crop.flip else j) + crop.left
            if 0 <= y < crop.height and 0 <= col < crop.width:
                row = min(H - 1, int((y + 0.5) * H / crop.height))
                column = min(W - 1, int((col + 0.5) * W / crop.width))
                out[i, j] = x[row, column]
    return out


@pytest.mark.parametrize("seed", range(8))
def test_read_crop__mask_equals_slow_reference(seed):
    torch.manual_seed(seed)
    target = torch.randint(0, 21, (37, 53), dtype=torch.uint8)
    cfg = ViewConfig(crop=40, scale=(0.53, 1.97), flip=True)  # no ratio at which two pixels are equally near
    crop = draw_crop(37, 53, cfg)
    expected = slow_crop(target.long(), crop, 40, IGNORE_INDEX)
    found = read_crop(target[None], crop, 40, fill=IGNORE_INDEX, is_mask=True)[0]
    assert torch.equal(found.long(), expected)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop=st.integers(1, 70),
    seed=st.integers(0, 2**31),
    flip=st.booleans(),
)
def test_weak_view__any_size(height, width, crop, seed, flip):
    torch.manual_seed(seed)
    threes, cfg = torch.full((height, width), 3), ViewConfig(crop=crop, flip=flip)
    image, target, valid = weak_view(random_image(height, width), threes, cfg)
    assert image.shape == (3, crop, crop) and image.dtype == torch.uint8
    assert target.shape == valid.shape == (crop, crop)
    assert target.dtype == torch.uint8 and valid.dtype == torch.bool
    assert valid.any() and torch.equal(target == 3, valid) and torch.equal(target == IGNORE_INDEX, ~valid)
    rows, cols = valid.any(1), valid.any(0)
    assert torch.equal(valid, rows[:, None] & cols[None])  # the image is one rectangle


def whole_then_cut(image, crop, side, fill):
    "The view as it is defined: the whole image resized, padded on all sides, cut, perhaps mirrored."
    resized = VF.resize_image(image, [crop.height, crop.width])
    padded = VF.pad_image(resized, [side] * 4, fill=fill)
    top, left = crop.top + side, crop.left + side
    view = padded[:, top : top + side, left : left + side]
    return view.flip(-1) if crop.flip else view


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("is_photograph", [False, True])
def test_weak_view__equals_its_definition(seed, is_photograph):
    g, height, width = generator(seed), 37, 53  # no ratio at which two pixels are equally near
    side = torch.randint(8, 90, (), generator=g).item()
    image, target = random_image(height, width, seed), torch.randint(0, 21, (height, width), generator=g)
    if is_photograph:  # a decoder gives channels innermost
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    cfg = ViewConfig(crop=side, scale=(0.53, 1.97), flip=True)
    torch.manual_seed(seed)
    crop = draw_crop(height, width, cfg)
    torch.manual_seed(seed)
    view = weak_view(image, target, cfg)
    assert torch.equal(view.image, whole_then_cut(image, crop, side, [round(255 * m) for m in cfg.mean]))
    assert torch.equal(view.target.long(), slow_crop(target, crop, side, IGNORE_INDEX))
    assert torch.equal(view.valid, slow_crop(torch.ones(height, width), crop, side, 0) == 1)
    assert all(x.is_contiguous() for x in view)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_weak_view__classes_are_bytes_whatever_they_came_as(dtype):
    target = torch.randint(0, 21, (40, 30), generator=generator()).to(dtype)
    views = []
    for given_target in (target, target.byte()):
        torch.manual_seed(3)
        views.append(weak_view(random_image(40, 30), given_target, ViewConfig(flip=True)))
    assert views[0].target.dtype == torch.uint8
    assert all(torch.equal(a, b) for a, b in zip(*views))


def test_weak_view__ignored_pixels_of_the_image_stay_valid():
    target = torch.full((8, 8), IGNORE_INDEX)
    _, seen, valid = weak_view(random_image(8, 8), target, ViewConfig(crop=8, scale=(1, 1)))
    assert (seen == IGNORE_INDEX).all() and valid.all()


def test_weak_view__same_seed_same_view():
    views = []
    for _ in range(2):
        torch.manual_seed(5)
        views.append(weak_view(random_image(), None, ViewConfig()))
    assert all(torch.equal(a, b) for a, b in zip(*views))


def test_weak_view__takes_tv_tensors_and_gives_plain_ones():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    image, mask = random_image(), torch.zeros(64, 64, dtype=torch.long)
    out = weak_view(tv_tensors.Image(image), tv_tensors.Mask(mask), ViewConfig())
    assert [type(x) for x in out] == [torch.Tensor] * 3


def test_weak_view__refuses_floats():
    with pytest.raises(AssertionError, match="uint8"):
        weak_view(torch.rand(3, 8, 8), None, ViewConfig())


def test_weak_view__leaves_its_input_alone():
    image, target = random_image(), torch.zeros(64, 64, dtype=torch.long)
    copies = image.clone(), target.clone()
    for seed in range(10):
        torch.manual_seed(seed)
        strong_view(weak_view(image, target, ViewConfig(flip=True))[0], ViewConfig())
    assert torch.equal(image, copies[0]) and torch.equal(target, copies[1])


@pytest.mark.parametrize("seed", range(10))
def test_strong_view__moves_no_pixel(seed):
    torch.manual_seed(seed)
    image = torch.full((3, 41, 41), 60, dtype=torch.uint8)
    image[:, 18:23, 7:12] = torch.tensor([230, 210, 190], dtype=torch.uint8)[:, None, None]
    view = strong_view(image, ViewConfig()).float().mean(0)
    weight = (view - view[-1, -1]).abs()
    grid = torch.arange(41.0)
    centre = (weight.sum(1) @ grid / weight.sum()).item(), (weight.sum(0) @ grid / weight.sum()).item()
    assert centre == pytest.approx((20, 9), abs=0.2)


@settings(max_examples=100, deadline=None)
@given(old=st.integers(1, 700), new=st.integers(1, 1500))
def test_nearest_places__are_those_of_nearest_exact(old, new):
    ramp = torch.arange(old, dtype=torch.float32).expand(1, 1, old)
    theirs = torch.nn.functional.interpolate(ramp, new, mode="nearest-exact")[0, 0]
    apart = (nearest_places(new, old, 0, new) - theirs.long()).abs()
    # where a centre falls on the edge between two pixels, rounding decides which
    is_edge = (2 * torch.arange(new) + 1) * old % (2 * new) == 0
    assert not apart[~is_edge].any() and apart.max() <= 1


def test_strong_view__small_and_flat_images():
    for shape in ((1, 1), (1, 9), (2, 3)):
        for seed in range(5):
            torch.manual_seed(seed)
            assert strong_view(random_image(*shape), ViewConfig(blur_prob=1)).shape == (3, *shape)


def test_read_crop__crop_of_the_image_itself_changes_nothing():
    image = random_image()
    assert torch.equal(read_crop(image, Crop(64, 64, 0, 0, False), 64, fill=0), image)


def test_normalize__by_hand():
    out = normalize(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8), (0.1, 0.2, 0.3), (0.5, 0.25, 0.1))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.2, 0.0, -1.0]), atol=1e-6, rtol=0)


def slow_cutmix(x, boxes):
    out = x.clone()
    for b in range(len(x)):
        for i in range(x.shape[-2]):
            for j in range(x.shape[-1]):
                if boxes.inside[b, i, j]:
                    out[b, ..., i, j] = x[(b + 1) % len(x), ..., i, j]
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_cutmix__equals_slow_reference(dtype, channels):
    x = torch.randint(0, 2, (3, *channels, 10, 14), generator=generator()).to(dtype)
    boxes = cutmix_boxes(3, 10, 14, ViewConfig(cutmix_prob=1), generator(1))
    mixed = boxes.mix(x)
    assert boxes.is_active and mixed.dtype == dtype and torch.equal(mixed, slow_cutmix(x, boxes))


def test_cutmix__boxes_are_rectangles_of_the_asked_area():
    for area in (0.1, 0.25, 0.5, 1.0):
        boxes = cutmix_boxes(50, 60, 80, ViewConfig(cutmix_prob=1, cutmix_area=area), generator())
        for inside in boxes.inside:
            rows, cols = inside.any(1), inside.any(0)
            assert torch.equal(inside, rows[:, None] & cols[None]) and cols.sum() >= math.ceil(area * 80)
            assert inside.float().mean().item() == pytest.approx(area, abs=0.5 / 60)


def test_cutmix__reaches_every_pixel():
    boxes = cutmix_boxes(2000, 8, 8, ViewConfig(cutmix_prob=1), generator())
    assert boxes.inside.any(0).all() and (~boxes.inside).any(0).all()


def test_cutmix__same_generator_same_boxes():
    a, b = (cutmix_boxes(4, 32, 32, ViewConfig(cutmix_prob=1), generator(3)).inside for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("num_images", [0, 1])
def test_cutmix__too_few_images_say_so(num_images):
    boxes = cutmix_boxes(num_images, 8, 8, ViewConfig(cutmix_prob=1), generator())
    x = torch.rand(num_images, 3, 8, 8)
    assert not boxes.is_active and "two unlabelled images" in boxes.inactive and torch.equal(boxes.mix(x), x)


def test_cutmix__keeps_channels_last_and_the_gradient():
    boxes = cutmix_boxes(2, 8, 8, ViewConfig(cutmix_prob=1), generator())
    x = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    mixed = boxes.mix(x)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    mixed.sum().backward()
    other = boxes.inside.roll(1, 0)  # image 0 is pasted into image 1, and so on
    assert torch.equal(x.grad, ((~boxes.inside).float() + other.float())[:, None].expand_as(x))


def test_cutmix__map_changes_both_tensors():
    boxes = cutmix_boxes(3, 8, 8, ViewConfig(cutmix_prob=1), generator())
    turned = boxes.map(lambda x: x.flip(0))
    assert torch.equal(turned.inside, boxes.inside.flip(0)) and torch.equal(
        turned.partner, boxes.partner.flip(0)
    )
    assert cutmix_boxes(1, 8, 8, ViewConfig(), generator()).map(torch.clone).inactive


def test_views__a_method_may_bring_its_own_rule():
    def nothing(num_images, height, width, cfg, generator):
        return CutMix(torch.zeros(num_images, height, width, dtype=torch.bool), torch.arange(num_images))

    assert Views().boxes is cutmix_boxes and Views(boxes=nothing) != Views()
    mix = Views(boxes=nothing).boxes(2, 4, 4, ViewConfig(), generator())
    x = torch.rand(2, 3, 4, 4)
    assert mix.is_active and torch.equal(mix.mix(x), x)


def test_cutmix__wrong_size_is_our_own_mistake():
    boxes = CutMix(torch.zeros(2, 8, 8, dtype=torch.bool), torch.tensor([1, 0]))
    with pytest.raises(AssertionError, match="do not fit"):
        boxes.mix(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize(
    "setting, message",
    [
        (dict(crop=0), "views.crop is 0"),
        (dict(scale=(0, 1)), "views.scale is"),
        (dict(scale=(2, 1)), "give the smaller number first"),
        (dict(jitter_prob=1.2), "views.jitter_prob is 1.2"),
        (dict(brightness=-1), "views.brightness"),
        (dict(hue=0.6), "between 0 and 0.5"),
        (dict(blur_sigma=(0, 1)), "views.blur_sigma"),
        (dict(cutmix_area=1.5), "views.cutmix_area"),
        (dict(mean=(0, 0, 124)), "views.mean is 0 0 124"),
        (dict(std=(0, 1, 1)), "views.std"),
        (dict(cutmix_prob=float("nan")), "views.cutmix_prob is nan"),
    ],
)
def test_config__refuses_and_names_the_value(setting, message):
    with pytest.raises(InputError) as error:
        ViewConfig(**setting)
    assert message in str(error.value)
