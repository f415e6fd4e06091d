"Hundreds of thousands of cells of a run: from its checkpoint, rounded in a page, laid out by a sample."

import numpy as np
import pytest
import torch
from helpers import few_images, tiny_run

from dgcl_nb import deep_cells, engine
from dgcl_nb import explore as explore_room
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.density import multi_scale_density
from dgcl_nb.deep_cells import deep_features
from dgcl_nb.engine import fit
from dgcl_nb.explore import explore, features_view, main
from dgcl_nb.looking import features as features_room
from dgcl_nb.looking import layout_time
from dgcl_nb.looking.features import density_of, sample_features
from dgcl_nb.looking.layout import principal_plane
from dgcl_nb.looking.layout_time import many_layout
from dgcl_nb.reference import cells_of
from dgcl_nb.snapshots import sample_balanced
from dgcl_nb.trained import open_trained

CELLS = 12 * 16 * 16
"Of twelve scenes of digits."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place, patch = tmp_path_factory.mktemp("deep"), pytest.MonkeyPatch()
    patch.setattr(engine, "build_data", few_images)
    fit(tiny_run("self_training", out=str(place / "run"), steps=4), callbacks=[])
    patch.undo()
    return place / "run"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(deep_cells, "open_data", lambda cfg: few_images(tiny_run()))


def test_deep__is_what_the_network_says_of_each_cell(run):
    found = deep_features(run, 500, device="cpu")
    images = few_images(tiny_run()).val
    seen = list(cells_of(open_trained(run, device="cpu"), images))
    cols = seen[0].grid[1]
    assert len(found.feats) <= 500 and found.image_id == tuple(images.ids) and found.notes == ()
    feats, labels = torch.cat([one.feats for one in seen]), torch.cat([one.labels for one in seen])
    for i in range(0, len(found.feats), 50):
        one = seen[found.pixel_image[i]]
        at = int(found.pixel_row[i]) * cols + int(found.pixel_col[i])
        assert found.pixel_class[i] == one.labels[at] and found.pixel_pseudo[i] == one.prediction[at]
        np.testing.assert_allclose(found.feats[i], one.feats[at], atol=2e-3)
        others = labels == one.labels[at]
        others[int(found.pixel_image[i]) * len(one) + at] = False
        wanted = multi_scale_density(one.feats[at][None], feats[others])
        assert found.pixel_density[i] == pytest.approx(float(wanted), abs=1e-5)


def one_large_class(num=25_000):
    "Maps of a class with more cells than answer, and of one with fewer."
    draw = torch.Generator().manual_seed(0)
    target = torch.zeros(1, num // 100, 100, dtype=torch.long)
    target[:, :20] = 1
    feats = torch.randn(*target.shape, 4, generator=draw)
    image = np.zeros((1, 8, 8, 3), np.uint8)
    return features_room.Maps(feats, target, target, torch.ones(target.shape), image, (8, 8))


def test_density__of_a_large_class_is_among_a_bounded_part_of_it(monkeypatch):
    banks, told, whole = [], [], features_room.density_among

    def density_among(feats, bank, own, num_neighbors):
        banks.append(len(bank))
        return whole(feats, bank, own, num_neighbors)

    monkeypatch.setattr(features_room, "density_among", density_among)
    made = one_large_class()
    about = ([made], ("steel", "patches"), np.zeros((2, 3), np.uint8), ("a",))
    few, more = (sample_features(*about, num_cells=num, watch=told.append) for num in (100, 300))
    assert banks == [features_room.MOST_COMPARED, 2000] * 2 and told == [50, 50, 150, 150]
    assert few.notes == ("Density is among 20 000 random cells of a class that has more (steel)",)
    place = {tuple(cell): i for i, cell in enumerate(np.c_[more.pixel_row, more.pixel_col].tolist())}
    same = [place[tuple(cell)] for cell in np.c_[few.pixel_row, few.pixel_col].tolist()]
    np.testing.assert_allclose(few.pixel_density, more.pixel_density[same], atol=1e-6)


def test_density__of_a_cell_that_answers_leaves_it_out():
    feats = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    rows, kind = np.arange(60), np.zeros(60, int)
    found = density_of([feats[:7], feats[7:]], kind, rows, (1, 3), most=40, seed=2)
    answering = sample_balanced(kind, 40, 2)
    for i in rows:
        others = feats[answering[answering != i]]
        wanted = multi_scale_density(feats[i][None], others, (1, 3))
        assert found[i] == pytest.approx(float(wanted), abs=1e-6)


def test_command__says_what_it_takes_and_how_far_it_is(run, tmp_path, capsys):
    main([str(run), "--cells", "500", "--out", str(tmp_path / "deep.html")])
    said = capsys.readouterr()
    assert said.out.startswith("12 images of 256 cells: about ")
    assert "for the density of 500 cells, each among at most 20 000 of its class" in said.out
    assert "network:" in said.err and "density:" in said.err


def test_command__stopped_says_so(run, capsys, monkeypatch):
    def stopped(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(deep_cells, "maps_of_images", stopped)
    with pytest.raises(SystemExit) as ended:
        main([str(run), "--cells", "500"])
    assert ended.value.code == 130 and "stopped; no page was written" in capsys.readouterr().err


def test_deep__takes_all_where_there_are_fewer_and_says_so(run):
    found = deep_features(run, 100_000, device="cpu")
    assert len(found.feats) == CELLS
    assert found.notes[0] == "val has 3 072 cells, fewer than the 100 000 asked for"
    assert found.notes[0] in explore(found).note


def test_command__makes_a_page_and_refuses_what_does_not_fit(run, capsys, monkeypatch):
    main([str(run), "--cells", "1000"])
    page = (run / "explorer-deep.html").read_text(encoding="utf-8")
    assert "explorer-deep.html" in capsys.readouterr().out and "self_training (" in page
    monkeypatch.setattr(features_room, "free_memory", lambda: 10**9)
    monkeypatch.setattr(deep_cells, "open_trained", lambda *given: pytest.fail("it was computed"))
    for args, words in (
        ([str(run), "--cells", "10000000"], "ask for --cells 1000000 or fewer"),
        ([str(run), "--cells", "-1"], "ask for at least one cell"),
        ([str(run), str(run), "--cells", "10"], "--cells asks the network of one run"),
        ([str(run / "nothing"), "--cells", "10"], "there is no folder"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert ended.value.code == 2 and words in capsys.readouterr().err


def test_deep__maps_that_do_not_fit_say_how_many_images_do(run, monkeypatch):
    monkeypatch.setattr(features_room, "free_memory", lambda: 10**5)
    with pytest.raises(InputError, match="look at num_images=.* or fewer"):
        deep_features(run, 100, device="cpu")


def test_page__of_many_cells_rounds_before_it_drops_images(run, monkeypatch):
    found = deep_features(run, 2000, device="cpu")
    assert features_view(found)[1] == []
    monkeypatch.setattr(explore_room, "NEAR_LIMIT", 100)
    whole, said = features_view(found)
    assert len(said) == 1 and "no neighbours" in said[0]
    less, said = features_view(found, most=len(whole) - 100, rest="the run has all")
    assert len(less) < len(whole) - 8 * len(found.feats)
    assert said[0] == "Places, densities and confidences are rounded to 65 535 levels; the run has all."
    fewer, said = features_view(found, most=len(less) - 100)
    assert said[0].startswith("To keep this file small it shows 6 of 12 images") and len(said) == 3


def test_layout__of_many_points_is_that_of_a_sample_and_its_neighbours(monkeypatch):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 5, 3000)
    feats = rng.normal(size=(5, 8))[kind] + 0.1 * rng.normal(size=(3000, 8))
    monkeypatch.setattr(layout_time, "umap_layout", lambda x, seed: np.asarray(x)[:, :2])
    xy = many_layout(feats, most=500, seed=1)
    unit = feats / np.linalg.norm(feats, axis=1, keepdims=True)
    exact = np.isclose(xy, unit[:, :2], atol=1e-6).all(1)
    assert 500 <= exact.sum() < 520
    sample = np.sort(np.random.default_rng(1).choice(3000, 500, replace=False))
    for i in np.flatnonzero(~exact)[:20]:
        nearest = sample[np.argsort(-unit[sample] @ unit[i])[:5]]
        np.testing.assert_allclose(xy[i], unit[nearest, :2].mean(0), atol=1e-5)


def test_pca__in_parts_is_pca(monkeypatch):
    x = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    whole = principal_plane(x)
    monkeypatch.setattr("dgcl_nb.looking.layout.PART", 64)
    np.testing.assert_allclose(principal_plane(x), whole, atol=1e-9)


def test_cells__without_a_mask_go_by_the_prediction(run, monkeypatch):
    class Bare:
        def __init__(self, images):
            self.images, self.ids = images, images.ids

        def __len__(self):
            return len(self.ids)

        def __getitem__(self, i):
            return {k: v for k, v in self.images[i].items() if k != "target"}

    data = few_images(tiny_run())
    object.__setattr__(data, "val", Bare(data.val))
    monkeypatch.setattr(deep_cells, "open_data", lambda cfg: data)
    found = deep_features(run, 300, device="cpu")
    assert (found.pixel_class == IGNORE_INDEX).all() and (found.pixel_pseudo != IGNORE_INDEX).all()
