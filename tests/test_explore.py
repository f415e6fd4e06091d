"The explorer of any network: what a hook gives, what a file may hold, what two runs have in common."

import zipfile
from collections import OrderedDict
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.density import multi_scale_density
from dgcl_nb import explore as explore_room
from dgcl_nb.explore import (
    MOST_PAGE,
    collect,
    explore,
    explorer_page,
    features_of,
    features_view,
    load_features,
    main,
    run_view,
    save_features,
    write_explorer,
)
from dgcl_nb.looking import features as features_room
from dgcl_nb.looking.changes import CHANGES, compared_values, paired_states, shared_cells
from dgcl_nb.looking.collect import cells_of, logits_in, shown_images
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.features import Features, class_quota
from dgcl_nb.looking.runs import open_run
from dgcl_nb.snapshots import at_cells

SIDE, CLASSES = 16, 3
NAMES = ("sky", "road", "tree")


class Net(nn.Module):
    "A backbone of two layers, tokens of it, and a head; gives what torchvision's networks give."

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(dict(layer3=nn.Conv2d(3, 6, 3, 2, 1), layer4=nn.Conv2d(6, 8, 3, 2, 1)))
        self.tokens, self.unused = nn.Identity(), nn.Identity()
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        x = self.backbone["layer4"](self.backbone["layer3"](x).relu())
        self.tokens(torch.cat([x.new_full((len(x), 1, 8), 9.0), x.flatten(2).transpose(1, 2)], 1))
        return dict(out=self.head(x))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def loader():
    "Five images in batches of two; the last one is nobody's."
    gen = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, SIDE, SIDE, generator=gen)
    labels = torch.randint(CLASSES, (5, SIDE, SIDE), generator=gen)
    labels[4] = 7
    return [(images[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)]


@pytest.fixture(scope="module")
def found(net, loader):
    return collect(net, loader, "backbone.layer4", class_names=NAMES, ignore_index=7)


def all_cells(net, loader):
    "Rows of all cells, and their labels, by hand."
    images, labels = (torch.cat([batch[i] for batch in loader]) for i in (0, 1))
    with torch.no_grad():
        x = net.backbone["layer4"](net.backbone["layer3"](images).relu())
    return x.permute(0, 2, 3, 1), at_cells(labels, x.shape[-2:])


def test_collect__takes_the_layer_at_its_cells_and_leaves_the_network_as_it_was(net, loader, found):
    feats, labels = all_cells(net, loader)
    at = (found.pixel_image.astype(int), found.pixel_row.astype(int), found.pixel_col.astype(int))
    directions = nn.functional.normalize(feats[at], dim=1)
    np.testing.assert_allclose(found.feats, directions.numpy(), atol=2e-3)
    known = found.pixel_class != IGNORE_INDEX
    np.testing.assert_array_equal(found.pixel_class[known], labels[at].numpy()[known])
    assert net.training and not net.backbone["layer4"]._forward_hooks
    assert found.grid.tolist() == [4, 4] and found.image_size.tolist() == [SIDE, SIDE]


def test_collect__density_is_among_all_cells_of_the_class_also_where_few_are_drawn(net, loader):
    few = collect(net, loader[:2], "backbone.layer4", num_cells=9, num_neighbors=(2, 5))
    feats, labels = all_cells(net, loader[:2])
    for i in range(len(few.feats)):
        place = (few.pixel_image[i], few.pixel_row[i], few.pixel_col[i])
        others = labels == labels[tuple(map(int, place))]
        others[tuple(map(int, place))] = False
        one = feats[tuple(map(int, place))][None]
        wanted = multi_scale_density(one, feats[others], (2, 5))
        assert few.pixel_density[i] == pytest.approx(float(wanted), abs=1e-5)


def test_collect__faint_features_keep_their_direction(net, loader, found):
    "An untrained network can give activations that half precision would round to nothing."
    feats, labels = all_cells(net, loader)
    faint, plain = (
        features_of(scale * feats[:4], labels[:4], num_cells=64, channels_last=True) for scale in (1e-9, 1)
    )
    np.testing.assert_allclose(faint.feats, plain.feats, atol=2e-3)
    assert np.ptp(explore(faint).state.xy, axis=0).min() > 1


def test_collect__predictions_are_the_networks_own(net, loader, found):
    images = torch.cat([batch[0] for batch in loader])
    with torch.no_grad():
        large = nn.functional.interpolate(net(images)["out"], size=(SIDE, SIDE), mode="bilinear")
    sure, said = large.softmax(1).max(1)
    at = (found.pixel_image.astype(int), found.pixel_row.astype(int), found.pixel_col.astype(int))
    np.testing.assert_array_equal(found.pixel_pseudo, at_cells(said, (4, 4))[at])
    np.testing.assert_allclose(found.pixel_confidence, at_cells(sure, (4, 4))[at], atol=1e-6)


def test_collect__an_image_without_labels_goes_by_its_predictions_or_is_named(net, loader, found):
    assert IGNORE_INDEX in found.pixel_class[found.pixel_image == 4]
    silent = collect(net, loader, "backbone.layer4", ignore_index=7, logits=lambda output: None)
    assert 4 not in silent.pixel_image and silent.notes == ("No cell of a known class lies in image 4",)
    assert (silent.pixel_pseudo == IGNORE_INDEX).all() and np.isnan(silent.pixel_confidence).all()
    view = explore(silent)
    assert "No cell of a known class lies in image 4" in view.note
    assert (view.state.right == -1).all() and view.selection()["confidence"] is None


def test_collect__tokens_with_a_stated_grid_are_the_map(net, loader, found):
    tokens = collect(net, loader, "tokens", class_names=NAMES, ignore_index=7, grid=(4, 4))
    np.testing.assert_array_equal(tokens.feats, found.feats)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(layer="backbone.layr4"), "unknown layer 'backbone.layr4'; did you mean backbone.layer4"),
        (dict(layer="unused"), "'unused' did not run"),
        (dict(layer="tokens"), "17 tokens an image; state their grid"),
        (dict(num_cells=10_000_000), "ask for num_cells="),
        (dict(num_cells=0), "at least one cell"),
        (dict(num_images=0), "one image at least"),
        (dict(class_names=("a", "b")), "a label is 2; allowed: 0 to 1"),
        (dict(palette=np.zeros((2, 3), int)), "palette has shape (2, 3)"),
        (dict(ignore_index=255), "a label is 7; allowed: 0 to 2, and 255"),
        (dict(ignore_index=None), "ignore_index is None; give a whole number"),
        (dict(layer=None), "layer is None; give a name of model.named_modules()"),
        (dict(layer="tokens", grid=4), "grid is 4; give (rows, columns)"),
        (dict(num_neighbors=8), "num_neighbors is 8; give a list"),
        (dict(num_cells=10.5), "num_cells is 10.5; give a whole number"),
        (dict(num_cells=2), "ask for 3 cells or more (num_cells=3)"),
        (dict(palette=np.full((3, 3), np.nan)), "the palette holds float64; give whole numbers"),
        (dict(palette=np.ones((3, 3)) / 2), "the palette holds float64; give whole numbers"),
        (dict(mean=(0, 0, 0)), "mean is given without std"),
        (dict(mean=(0, 0), std=(1, 1)), "mean has 2 values and images have 3 channels"),
    ],
)
def test_collect__bad_input_is_one_sentence(net, loader, options, words):
    given = dict(layer="backbone.layer4", ignore_index=7) | options
    with pytest.raises(InputError) as caught:
        collect(net, loader, **given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_collect__logits_of_another_number_than_names_may_be_none_at_all(net, loader):
    with pytest.raises(InputError, match="or say logits=lambda output: None, if these are no logits"):
        collect(net, loader, "backbone.layer4", class_names="abcdefgh", ignore_index=7)


@pytest.mark.parametrize(
    "batch, words",
    [
        ([], "a batch is empty"),
        ((torch.zeros(2, 3, 8, 8), dict(boxes=1)), "labels are a dictionary of boxes"),
        ((torch.zeros(2, 3, 8, 8), 1), "labels are a single number"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2, 0, 8).long()), "of shape (2, 0, 8)"),
    ],
)
def test_collect__a_batch_that_cannot_be_read_is_one_sentence(net, batch, words):
    with pytest.raises(InputError) as caught:
        collect(net, [batch], "backbone.layer4")
    assert words in str(caught.value)


def test_collect__takes_what_can_be_read_in_one_way_only(net, loader, found):
    images, labels = loader[0]
    pair = collect(net, [(images, labels)], "backbone.layer4")
    nested = collect(net, [(images, dict(masks=labels))], "backbone.layer4")
    np.testing.assert_array_equal(nested.pixel_class, pair.pixel_class)
    named = collect(net, [(images, labels)], "backbone.layer4", class_names={2: "c", 0: "a", 1: "b"})
    assert named.class_names == ("a", "b", "c")
    turned = collect(net, [(images.numpy()[..., ::-1], labels.numpy()[..., ::-1])], "backbone.layer4")
    mirrored = collect(net, [(images.flip(-1), labels.flip(-1))], "backbone.layer4")
    np.testing.assert_array_equal(turned.feats, mirrored.feats)
    few_bits = Net().bfloat16()
    assert len(collect(few_bits, [(images, labels)], "backbone.layer4").feats) == 32
    quantised = torch.quantize_per_tensor(torch.ones(1, 2, 3, 3), 0.5, 0, torch.quint8)
    assert cells_of(quantised).unique().tolist() == [1]
    for empty in (torch.zeros(1, 0, 3, 3), torch.zeros(1, 4, 0, 3)):
        with pytest.raises(InputError, match="which holds nothing"):
            features_of(empty, logits=torch.zeros(1, 2, 3, 3))


def test_collect__a_layer_is_as_it_was_before_what_follows_it_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 1))
    images = torch.randn(2, 3, 8, 8)
    found = collect(model, [(images, torch.zeros(2, 8, 8).long())], "1", num_cells=72)
    with torch.no_grad():
        wanted = model.eval()[1](model[0](images))
    feats = nn.functional.normalize(wanted.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    np.testing.assert_allclose(found.feats, feats.numpy(), atol=2e-3)
    assert found.feats.min() < 0


def test_collect__a_layer_that_runs_twice_in_one_pass_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), relu := nn.ReLU(), nn.Conv2d(2, 2, 1), relu)
    with pytest.raises(InputError, match="'1' ran 2 times in one pass"):
        collect(model, [(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long())], "1")


class Answers(nn.Module):
    "A network that wraps its logits."

    def __init__(self, wrap, classes=2):
        super().__init__()
        self.body, self.head, self.wrap = nn.Conv2d(3, 4, 1), nn.Conv2d(4, classes, 1), wrap

    def forward(self, x):
        return self.wrap(self.head(self.body(x)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: dict(out=x, aux=-x),
        lambda x: dict(logits=x),
        lambda x: OrderedDict(loss=x.mean(), logits=x),
        lambda x: (x, -x),
        lambda x: [x.mean(), x],
    ],
)
def test_collect__finds_logits_however_they_are_wrapped(wrap):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 6, 6)
    model = Answers(wrap)
    found = collect(model, [images], "body", num_cells=72)
    with torch.no_grad():
        said = model.head(model.body(images)).argmax(1)
    at = (found.pixel_image.astype(int), found.pixel_row.astype(int), found.pixel_col.astype(int))
    np.testing.assert_array_equal(found.pixel_pseudo, said[at].numpy())
    assert not any("logits" in note for note in found.notes)


def test_collect__says_so_where_no_logits_are_found():
    labels = torch.arange(36).reshape(1, 6, 6) % 2
    silent = collect(Answers(lambda x: dict(masks=x)), [(torch.randn(1, 3, 6, 6), labels)], "body")
    assert silent.notes[0].startswith("No predictions: in what the network gives no logits")


def test_collect__one_logit_parts_two_classes():
    torch.manual_seed(0)
    images, model = torch.randn(2, 3, 6, 6), Answers(lambda x: x, classes=1)
    found = collect(model, [images], "body", num_cells=72, class_names=("no", "yes"))
    with torch.no_grad():
        share = model.head(model.body(images)).sigmoid()[:, 0]
    at = (found.pixel_image.astype(int), found.pixel_row.astype(int), found.pixel_col.astype(int))
    np.testing.assert_array_equal(found.pixel_pseudo, share[at].numpy() > 0.5)
    np.testing.assert_allclose(found.pixel_confidence, torch.maximum(share, 1 - share)[at].numpy(), atol=1e-5)


def test_collect__where_logits_are_nan_nothing_is_predicted():
    images = torch.ones(1, 3, 6, 6)
    broken = Answers(lambda x: x.masked_fill(torch.arange(6) < 3, torch.nan))
    found = collect(broken, [(images, torch.zeros(1, 6, 6).long())], "body")
    assert (found.pixel_pseudo[found.pixel_col < 3] == IGNORE_INDEX).all()
    assert (found.pixel_pseudo[found.pixel_col > 3] < 2).all()


def test_collect__labels_that_were_not_read_and_tokens_before_the_grid_are_notes(net, loader):
    images, labels = loader[0]
    unread = collect(net, [dict(image=images, annotation=labels)], "backbone.layer4")
    assert unread.notes[0].startswith("No labels were read: batches have annotation and none of target")
    small = collect(net, loader, "tokens", ignore_index=7, grid=(3, 3))
    assert small.notes[0] == "8 of 17 tokens stand before the grid of 3×3 and are left out"


def test_collect__an_image_of_another_size_ends_it_at_once(net, loader):
    seen = []

    def batches():
        for side in (16, 32, 16):
            seen.append(side)
            yield torch.zeros(1, 3, side, side), torch.zeros(1, side, side).long()

    with pytest.raises(InputError, match="images of 16×16 and of 32×32 pixels"):
        collect(net, batches(), "backbone.layer4")
    assert seen == [16, 32]
    with pytest.raises(InputError, match="a label is 254; allowed: 0 to 253"):
        features_of(torch.ones(1, 2, 4, 4), torch.full((1, 4, 4), 254))


def test_images__are_shown_as_they_were_before_a_mean_of_bytes_was_taken():
    "Of as many channels as there are."
    flat = torch.zeros(1, 4, 2, 2)
    shown = shown_images(flat, mean=(100, 110, 120, 130), std=(50, 50, 50, 50))
    assert shown[0, 0, 0].tolist() == [100, 110, 120]


def test_density__of_cells_that_are_alike_is_at_most_one():
    feats = torch.ones(1, 16, 16, 16) + 1e-4 * torch.randn(1, 16, 16, 16)
    found = features_of(feats, torch.zeros(1, 16, 16).long(), num_cells=256)
    assert found.pixel_density.max() <= 1 and len(found.pixel_density) == 256
    old = replace(found, pixel_density=found.pixel_density + np.float32(1e-6))
    assert explore(old).state.mask(density=(0.5, 1)).all()


def test_collect__ten_million_cells_say_what_they_need_and_offer_less(net, loader, monkeypatch):
    monkeypatch.setattr(features_room, "free_memory", lambda: 10**8)
    with pytest.raises(
        InputError, match=r"10 000 000 cells of 8 channels need 0\.5 GB; 0\.1 GB may be taken"
    ):
        collect(net, loader, "backbone.layer4", num_cells=10_000_000)
    with pytest.raises(InputError, match="num_images=97656 or fewer"):
        collect(net, loader, "backbone.layer4", num_images=10**6)


def test_collect__nan_features_and_images_of_two_sizes(net, loader):
    images, labels = loader[0]
    with pytest.raises(InputError, match=r"NaN or infinity in .* of 32 cells of 'backbone.layer4'"):
        collect(net, [(images * torch.nan, labels)], "backbone.layer4")
    wide = (torch.zeros(1, 3, SIDE, 2 * SIDE), torch.zeros(1, SIDE, 2 * SIDE).long())
    with pytest.raises(InputError, match="images of 16×16 and of 16×32 pixels"):
        collect(net, [loader[0], wide], "backbone.layer4")


def test_collect__one_class_is_a_note_and_not_an_error(net, loader):
    images, labels = loader[0]
    one = collect(net, [(images, 0 * labels)], "backbone.layer4", class_names=NAMES)
    assert one.notes[0].startswith("All cells are of one class (sky)")
    assert np.isfinite(one.pixel_density).all()


def test_collect__loaders_of_dictionaries_and_of_images_alone(net, loader):
    images, labels = loader[0]
    pairs = collect(net, [(images, labels)], "backbone.layer4")
    named = collect(net, [dict(pixel_values=images, mask=labels)], "backbone.layer4")
    np.testing.assert_array_equal(named.pixel_class, pairs.pixel_class)
    alone = collect(net, [images], "backbone.layer4")
    assert (alone.pixel_class == IGNORE_INDEX).all() and len(alone.class_names) == CLASSES
    with pytest.raises(InputError, match="and none of image"):
        collect(net, [dict(picture=images)], "backbone.layer4")


def test_collect__looks_at_no_more_images_than_asked(net, loader):
    assert len(collect(net, loader, "backbone.layer4", num_images=3, ignore_index=7).image_id) == 3


def test_layers__whatever_they_give_is_told():
    for output, words in ((dict(out=1, aux=2), "a dict of out, aux"), (torch.zeros(3), r"gives \(3,\)")):
        with pytest.raises(InputError, match=words):
            cells_of(output, layer="x")
    assert logits_in(type("Output", (), dict(logits=torch.zeros(1, 2, 3, 3)))()).shape == (1, 2, 3, 3)


@pytest.mark.parametrize("counts, wanted", [([5, 5], 4), ([1, 100, 7], 30), ([3], 10), ([0, 9], 9)])
def test_quota__is_the_largest_that_fits(counts, wanted):
    quota = class_quota(counts, wanted)
    taken = [sum(min(count, q) for count in counts) for q in (quota, quota + 1)]
    assert taken[0] <= wanted and (taken[1] > wanted or taken[1] == taken[0])


def test_file__gives_back_what_was_saved(found, tmp_path):
    again = load_features(save_features(found, tmp_path / "features.npz"))
    for f in fields(Features):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(found, f.name))
    with pytest.raises(InputError, match="end its name with .npz"):
        save_features(found, tmp_path / "features.pkl")


def test_file__what_is_written_can_be_read_however_long_names_are(found, tmp_path):
    ids = [f"{i}{'x' * 140}" for i in range(5)]
    feats = torch.randn(5, 4, 2, 2)
    labels = torch.full((5, 2, 2), IGNORE_INDEX)
    labels[0] = torch.tensor([[0, 1], [0, 1]])
    made = features_of(feats, labels, image_ids=ids)
    assert load_features(save_features(made, tmp_path / "long.npz")).notes == made.notes
    with pytest.raises(InputError, match="'class_names' has 500 letters; allowed: at most 400; shorten it"):
        save_features(replace(found, class_names=("x" * 500, "b", "c")), tmp_path / "x.npz")


def rewritten(found, path, **changes):
    "A features file with other arrays in it."
    np.savez(save_features(found, path), **{**np.load(path), **changes})
    return path


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(version=np.array(9)), "has version 9"),
        (dict(layer=np.array(["a", "b"])), "no single value"),
        (dict(class_names=np.array([1, 2, 3])), "no list of texts"),
        (dict(pixel_col=np.full(80, 4, np.int16)), "'pixel_col' holds 4; allowed: 0 to 3"),
        (dict(pixel_image=np.full(80, -1, np.int16)), "'pixel_image' holds -1"),
        (dict(pixel_class=np.full(80, 3, np.uint8)), "'pixel_class' holds 3"),
        (dict(feats=np.full((80, 8), np.nan, np.float16)), "'feats' holds NaN"),
        (dict(feats=np.zeros((80, 8))), "'feats' is float64"),
        (dict(grid=np.zeros(3, np.int32)), "'grid' has shape (3,)"),
        (dict(feats=np.array([{}], object)), "pickled"),
        (
            dict(
                class_names=np.array([f"class {c}" for c in range(260)]), palette=np.zeros((260, 3), np.uint8)
            ),
            "260 classes; 1 to 254 can be shown",
        ),
        (dict(image_id=np.array(["a"] * 5)), "two images of the features have one image_id"),
        (dict(pixel_confidence=np.full(80, 7, np.float32)), "'pixel_confidence' holds 7.0; allowed: 0 to 1"),
        (dict(pixel_density=np.full(80, -3, np.float32)), "'pixel_density' holds -3.0; allowed: -1 to 1"),
        (dict(image_size=np.int32([-16, 16])), "'image_size' holds -16"),
        (dict(grid=np.int32([4, 2**31 - 1])), "'grid' holds 2147483647; allowed: 1 to 32767"),
    ],
)
def test_file__is_hostile_until_checked(found, tmp_path, changes, words):
    with pytest.raises(InputError) as caught:
        load_features(rewritten(found, tmp_path / "x.npz", **changes))
    assert words in str(caught.value) and "x.npz" in str(caught.value)


def test_file__of_a_bomb_a_part_or_nothing(found, tmp_path, monkeypatch):
    path = save_features(found, tmp_path / "features.npz")
    monkeypatch.setattr(features_room, "MOST_UNPACKED", 1000)
    with pytest.raises(InputError, match="would take more than 1000 bytes"):
        load_features(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read as features"):
        load_features(path)
    with pytest.raises(InputError, match="no file"):
        load_features(tmp_path / "gone.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("layer.npy", b"nothing")
    with pytest.raises(InputError, match="cannot be read as features"):
        explore(path)


def test_explore__takes_maps_a_sample_a_file_and_a_run(net, loader, found, tmp_path):
    feats, _ = all_cells(net, loader)
    images, labels = (torch.cat([batch[i] for batch in loader]) for i in (0, 1))
    with torch.no_grad():
        logits = net(images)["out"]
    maps = feats.permute(0, 3, 1, 2)
    views = [
        explore(maps, labels, images, logits=logits, class_names=NAMES, ignore_index=7),
        explore(
            maps.numpy(), labels.numpy(), images.numpy(), logits=logits, class_names=NAMES, ignore_index=7
        ),
        explore(found),
        explore(save_features(found, tmp_path / "features.npz")),
    ]
    for view in views:
        np.testing.assert_allclose(view.state.density, found.pixel_density, atol=1e-5)
        assert view.scene["said"] == "prediction" and len(view.shown()) == 80
    run = make_demo_run(tmp_path / "run", steps=100, snapshots=1, num_images=2)
    for source in (run, run / "snapshots" / "step_0000100.npz"):
        assert explore(source).scene["said"] == "pseudo-label"
    with pytest.raises(InputError, match="did you mean pca"):
        explore(found, layout="pcaa")


def test_explore__without_images_or_labels_has_no_pictures_but_points(net, loader):
    feats, _ = all_cells(net, loader)
    with torch.no_grad():
        logits = net(loader[0][0])["out"]
    bare = features_of(feats[:2].permute(0, 3, 1, 2), logits=logits)
    assert explore(bare).scene["thumb_size"] == [0, 0] and len(bare.feats) == 32
    with pytest.raises(InputError, match="give labels, or the network's logits"):
        features_of(feats.permute(0, 3, 1, 2))


def test_page__drops_images_to_fit_and_says_so(found):
    whole, said = features_view(found)
    assert not said and len(whole) < MOST_PAGE
    less, said = features_view(found, most=len(whole) - 100)
    assert len(less) < len(whole) and said == [
        "To keep this file small it shows 2 of 5 images; features.npz has all."
    ]
    with pytest.raises(InputError, match="collect fewer"):
        features_view(found, most=1000)


def test_explore__options_are_the_explorers_or_those_of_maps_or_refused(net, loader, found):
    feats, _ = all_cells(net, loader)
    maps, labels = feats.permute(0, 3, 1, 2), loader[0][1]
    assert explore(maps[:2], labels, colour_by="density", num_cells=20).colour_by == "density"
    with pytest.raises(InputError, match="unknown option 'colour'"):
        explore(maps[:2], labels, colour="density")
    with pytest.raises(InputError, match="labels and images go with feature maps"):
        explore(found, labels)


def test_page__says_pca_where_umap_has_nothing_to_say(found, two_runs, tmp_path):
    alike = replace(found, feats=np.ones_like(found.feats))
    view, _ = features_view(alike, "umap")
    assert "There is no UMAP layout: all features point the same way" in view
    same = [replace(run.latest(), feats=np.ones_like(run.latest().feats)) for run in two_runs]
    scene = compared_values(*map(OneSnapshot, same), "umap")
    assert scene["scene"]["layout"] == "PCA" and "There is no UMAP layout" in scene["note"]
    for sources in ((save_features(found, tmp_path / "a.npz"),), [run.path for run in two_runs]):
        with pytest.raises(InputError, match="unknown layout 'tsne'"):
            write_explorer(*sources, layout="tsne")
    with pytest.raises(InputError, match="--part names the images for --cells"):
        write_explorer(two_runs[0].path, part="labelled")


class OneSnapshot:
    "A run of a single snapshot."

    name = "run"

    def __init__(self, snap):
        self.latest = lambda: snap


def test_page__names_its_file(found, tmp_path, monkeypatch):
    file = save_features(found, tmp_path / "mine.npz")
    whole = len(features_view(found)[0])
    monkeypatch.setattr(explore_room.features_view, "__defaults__", ("pca", whole - 100, "all"))
    assert "mine.npz has all" in explore_room.page_of_sample(file, "pca").left_out[0]


def test_page__of_a_run_names_the_snapshots_that_could_not_be_read(tmp_path):
    run = make_demo_run(tmp_path / "run", 400, snapshots=4, num_images=2)
    first = min((run / "snapshots").glob("*.npz"))
    first.write_bytes(first.read_bytes()[:100])
    view, _ = run_view(open_run(run))
    assert first.name in view


def test_page__names_from_a_file_are_text(found):
    evil = "</script><img src=x onerror=alert(1)>"
    named = replace(found, layer=evil, image_id=(evil, *found.image_id[1:]), class_names=(evil, *NAMES[1:]))
    page = explorer_page(f"Features of '{named.layer}'", [], features_view(named)[0])
    assert "<img src=x" not in page


def test_command__features_a_run_and_two(found, tmp_path, capsys):
    file = save_features(found, tmp_path / "features.npz")
    runs = [str(make_demo_run(tmp_path / name, 100, snapshots=1, num_images=2)) for name in "ab"]
    for args, name in (
        ([str(file)], "features.html"),
        (runs[:1], "explorer.html"),
        (runs, "explorer-vs-b.html"),
    ):
        main(args)
        assert name in capsys.readouterr().out
    page = tmp_path / "page.html"
    main([str(file), "--out", str(page)])
    assert "backbone.layer4" in page.read_text(encoding="utf-8")
    for args, words in (([], "0 sources"), ([str(tmp_path)], "error: "), ([str(file), runs[0]], "error: ")):
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert ended.value.code == 2 and words in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    made = [make_demo_run(place / f"until{n}", 400, "dgcl", n, snapshots=4, num_images=4) for n in (200, 400)]
    return [open_run(run) for run in made]


def values_of(scene, name, dtype):
    return np.frombuffer(scene[name], dtype).reshape(2, -1)


def test_changes__same_cells_in_both_with_what_became_of_them(two_runs):
    scene = compared_values(*two_runs)["scene"]
    change, shift = values_of(scene, "change", "u1"), values_of(scene, "shift", "<f4")
    for name, dtype in (("image", "<i2"), ("row", "<u2"), ("col", "<u2"), ("label", "u1")):
        first, second = values_of(scene, name, dtype)
        np.testing.assert_array_equal(first, second)
    label, before, after = values_of(scene, "label", "u1")[0], *values_of(scene, "pseudo", "u1")
    wanted = 2 * (before != label) + (after != label)
    np.testing.assert_array_equal(change, [wanted, wanted])
    old, new = values_of(scene, "density", "<f4")
    np.testing.assert_array_equal(shift[0], new - old)
    assert scene["compared"] and [s["name"] for s in scene["steps"]] == [
        "until200, step 200",
        "until400, step 400",
    ]
    assert CHANGES[1] == "right → wrong"


def test_changes__a_turned_network_lies_where_it_lay(two_runs):
    snap = two_runs[1].latest()
    turned = replace(snap, feats=-snap.feats[:, ::-1].copy())
    first, second = paired_states(snap, turned)
    np.testing.assert_allclose(first.xy, second.xy, atol=1e-2)


def test_changes__density_is_one_for_both_whatever_their_methods_noted(two_runs):
    "A method with a memory bank notes another density than one without: their difference says nothing."
    snaps = [run.latest() for run in two_runs]
    plain = paired_states(*snaps)
    noted = paired_states(snaps[0], replace(snaps[1], pixel_density=snaps[1].pixel_density / 2))
    np.testing.assert_array_equal(noted[1].density, plain[1].density)
    same = paired_states(snaps[0], replace(snaps[0], pixel_density=snaps[0].pixel_density / 2))
    np.testing.assert_array_equal(same[1].density, same[0].density)
    assert np.isfinite(plain[0].density).mean() > 0.9


def test_changes__what_cannot_be_compared_says_why(two_runs):
    snap = two_runs[1].latest()
    lost = replace(snap, pixel_image=np.full_like(snap.pixel_image, -1))
    with pytest.raises(InputError, match="no cell in common"):
        shared_cells(snap, lost)
    coarse = replace(snap, density=snap.density[:, ::2, ::2])
    with pytest.raises(InputError, match="16×16 and 8×8 cells"):
        shared_cells(snap, coarse)
