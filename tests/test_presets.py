"""The paper's presets: every one parses, builds its network, and holds the numbers of its sources.

Also: how a batch is shared, and what is said where lists are missing.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import flags
from PIL import Image
from sync_gate import ROOT

from dgcl_nb.config import METHODS, build_method, parse_run, run_to_dict, share_batch
from dgcl_nb.core import InputError
from dgcl_nb.data.sets import open_data
from dgcl_nb.model import SegNetwork
from dgcl_nb.optim import OptimConfig, make_optimizer
from dgcl_nb.settings import FOR, preset_layers, setting_of
from dgcl_nb.train import main

SHIPPED = preset_layers("/nowhere")[0][1]
PAPER = [s for s in SHIPPED if s.startswith(("voc", "cityscapes"))]
UNLABELLED = {
    "voc": {
        92: 10490,
        183: 10399,
        366: 10216,
        732: 9850,
        1464: 9118,
        662: 9920,
        1323: 9259,
        2646: 7936,
        5291: 5291,
    },
    "cityscapes": {186: 2789, 372: 2603, 744: 2231, 1488: 1487},
}
"How many images each published list leaves unlabelled."


def preset(name, *args):
    return parse_run(["--preset", name, *args], "/nowhere")


def dataset(name):
    return name.split("-")[0]


def number(name):
    return int(re.search(r"-(\d+)", name).group(1))


def test_presets__all_that_were_promised():
    fine, blended = (92, 183, 366, 732, 1464), (662, 1323, 2646, 5291)
    names = [f"voc-{n}" for n in fine]
    names += [f"voc-blended-{n}" for n in blended]
    names += [f"cityscapes-{n}" for n in UNLABELLED["cityscapes"]]
    names += [f"voc-{n}-dinov2{size}" for n in fine for size in "sb"]
    assert set(names) <= set(PAPER)


REAL = {
    "neu-77": ("neu_seg", [31, 154, 308]),
    "camvid-46": ("camvid", [23, 92, 184]),
    "camvid-full-46": ("camvid", [23, 92, 184]),
}
"Presets of real data: the first of each family, its data set, and the numbers of labels of the others."
FIRST = [name for name in SHIPPED if not name.startswith(("neu", "camvid")) or name in REAL]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FIRST)
def test_presets__every_one_parses(name, method):
    name, _, owner = name.partition(FOR)
    if owner:
        assert owner in METHODS, f"[{name}{FOR}{owner}] is for no method"
    if name.startswith("variant "):
        assert preset("voc-732", "--method", method, "--variant", name.split()[1]).variant == name.split()[1]
    else:
        assert preset(name, "--method", method).method == method


@pytest.mark.parametrize("method", METHODS)
def test_released__whatever_a_search_chose(method):
    found, published = (
        run_to_dict(preset(name, "--method", method, "--variant", "released")) | dict(preset="")
        for name in ("digits", "digits-start")
    )
    assert found == published


@pytest.mark.parametrize("first", REAL)
def test_presets__those_of_real_data_differ_in_their_labels_alone(first):
    data, numbers = REAL[first]
    family, one = first.rpartition("-")[0], preset(first)
    assert one.data.name == data and one.views.flip
    for num in numbers:
        other = preset(f"{family}-{num}")
        assert other.data.num_labelled == num
        data = replace(other.data, num_labelled=one.data.num_labelled)
        assert replace(other, preset=first, data=data) == one


@pytest.mark.parametrize("first", ["neu-77", "camvid-46"])
def test_presets__settings_are_chosen_on_other_images(first):
    family = first.partition("-")[0]
    one, start, tune = (preset(name) for name in (first, f"{family}-start", f"{family}-tune"))
    assert one.data == start.data and tune.data.name == f"{one.data.name}-tune"
    seldom = dict(loop=start.loop, preset=start.preset)  # the tuning scenes are scored twice only
    assert replace(tune, data=replace(tune.data, name=one.data.name), **seldom) == start


def test_presets__what_a_search_chose_is_for_its_methods_alone():
    for method in set(METHODS) - {"self_training", "dgcl", "unimatch", "cps"}:
        one, before = (preset(name, "--method", method) for name in ("camvid-46", "camvid-start"))
        # the rate, the steps and the loss on labels are every method's
        shared = dict(optim=before.optim, sup=before.sup, steps=before.steps)
        assert replace(one, preset="camvid-start", **shared) == before


@pytest.mark.parametrize("method", ["fixmatch", "unimatch", "cps"])
def test_presets__streets_take_over_what_was_chosen_on_steel_for_the_best_methods(method):
    steel, streets = (preset(name, "--method", method) for name in ("neu-77", "camvid-46"))
    assert getattr(streets, method) == getattr(steel, method)


def test_presets__steel_has_what_the_search_of_the_other_methods_chose():
    table = json.loads((ROOT / "results" / "neu_seg-tune" / "others.json").read_text())
    flags_of = {row["label"]: row["flags"] for row in table["rows"]}
    assert set(table["chosen"]) == set(METHODS) - {"supervised", "self_training", "dgcl"}
    for method, label in (table["chosen"] | {"supervised": "supervised"}).items():
        chosen = preset("neu-start", "--method", method, *flags_of.get(label, []))
        assert replace(preset("neu-77", "--method", method), preset="neu-start") == chosen, method


@pytest.mark.parametrize("first", ["camvid-46", "camvid-full-46"])
def test_presets__hard_pixels_are_the_same_share_of_a_batch_at_every_size(first):
    for method in ("supervised", "self_training", "dgcl"):
        run = preset(first, "--method", method)
        pixels = run.batch.labelled * run.views.crop**2
        assert run.sup.ohem
        assert run.sup.ohem_min_kept / pixels == pytest.approx(1 / 12, rel=0.03)


@pytest.mark.parametrize("name", PAPER)
def test_presets__lists_of_the_right_family(name):
    data = preset(name).data
    assert data.name == dataset(name)
    # DGCL takes U2PL's lists on VOC and those of CPS on Cityscapes
    family = "u2pl" if dataset(name) == "voc" and "blended" not in name else "cps"
    assert data.lists == f"{family}/{number(name)}"


@pytest.mark.parametrize("name", PAPER)
def test_presets__steps_are_the_published_epochs(name):
    "An epoch is a pass over the unlabelled list; each GPU has its share, the last incomplete batch left out."
    if "dinov2" in name:
        epochs, gpus, each = (60, 4, 4) if dataset(name) == "voc" else (180, 4, 2)  # UniMatch V2, configs
    else:
        epochs, gpus, each = (80, 4, 4) if dataset(name) == "voc" else (200, 8, 2)  # DGCL, configs
    run, images = preset(name), UNLABELLED[dataset(name)][number(name)]
    assert run.steps == epochs * (-(-images // gpus) // each)
    assert run.batch.labelled == run.batch.unlabelled == each
    assert run.optim.total_batch == run.optim.lr_batch == gpus * each
    sup_only = 1 if dataset(name) == "voc" else 10 if "dinov2" not in name else 9
    assert run.sup_only_steps == pytest.approx(sup_only * run.steps / epochs, abs=1)


VOC = {
    "views.crop": 513,
    "views.scale": (0.5, 2.0),
    "views.flip": True,
    "views.jitter_prob": 0,
    "views.grey_prob": 0,
    "views.blur_prob": 0,
    "views.cutmix_prob": 0.5,
    "views.cutmix_area": 0.5,
    "model.encoder": "resnet101s",
    "model.output_stride": 16,
    "model.aspp_rates": (6, 12, 18),
    "model.decoder_channels": 256,
    "model.low_level_channels": 48,
    "model.proj_dim": 256,
    "model.dropout": 0.1,
    "model.aux": False,
    "optim.optimizer": "sgd",
    "optim.lr": 0.01,
    "optim.encoder_lr_scale": 0.1,
    "optim.momentum": 0.9,
    "optim.weight_decay": 1e-4,
    "optim.poly_power": 0.9,
    "optim.warmup": 0,
    "eval.mode": "whole",
    "sup.ohem": False,
    "semi.unsup_weight": 0.5,
    "semi.ema_decay": 0.999,
    "semi.filter.drop_start": 20,
    "semi.filter.drop_floor": 0,
    "dgcl.contrast_weight": 0.5,
    "dgcl.contrast_filter.drop_start": 80,
    "dgcl.contrast_filter.drop_floor": 10,
    "dgcl.num_neighbors": (8, 16, 32),
    "dgcl.temperature": 0.5,
    "dgcl.sampling.num_anchors": 200,
    "dgcl.sampling.num_positives": 50,
    "dgcl.sampling.num_bank_positives": 50,
    "dgcl.sampling.num_negatives": 512,
    "dgcl.bank.size": 10_000,
    "dgcl.bank.max_new_per_class": 1000,
}
"DGCL's released config for VOC and its code."
CITYSCAPES = VOC | {
    "views.crop": 769,
    "model.output_stride": 8,
    "model.aspp_rates": (12, 24, 36),
    "model.aux": True,
    "optim.encoder_lr_scale": 1,
    "sup.ohem": True,
    "sup.ohem_thresh": 0.7,
    "sup.ohem_min_kept": 100_000,
    "sup.aux_weight": 0.4,
    "eval.mode": "slide",
    "eval.crop": 769,
    "eval.stride": 2 / 3,
    "dgcl.sampling.background": True,
}
"DGCL's released config for Cityscapes, and the field's protocol."
DINOV2 = {
    "views.crop": 518,
    "views.jitter_prob": 0.8,
    "views.brightness": 0.5,
    "views.contrast": 0.5,
    "views.saturation": 0.5,
    "views.hue": 0.25,
    "views.grey_prob": 0.2,
    "views.blur_prob": 0.5,
    "model.encoder": "vit_small_patch14_dinov2",
    "model.decoder_channels": 64,
    "optim.optimizer": "adamw",
    "optim.lr": 2e-4,
    "optim.layer_decay": 0.9,
    "optim.weight_decay": 0.01,
    "semi.ema_decay": 0.996,
    "semi.unsup_weight": 0.5,
    "dgcl.contrast_weight": 0.5,
}
"UniMatch V2: configs/pascal.yaml, unimatch_v2.py, dataset/semi.py; layers decay as BEiT's in mmsegmentation."
BASE = {"model.encoder": "vit_base_patch14_dinov2", "model.decoder_channels": 128}
LARGE = {"views.crop": 798, "sup.ohem": True, "sup.ohem_min_kept": 200_000, "eval.crop": 798}


def expected(name):
    "The numbers that a preset's sources give."
    if "dinov2" not in name:
        return VOC if dataset(name) == "voc" else CITYSCAPES
    size = BASE if name.endswith("b") else {}
    return DINOV2 | size | ({} if dataset(name) == "voc" else LARGE)


@pytest.mark.parametrize("name", PAPER)
def test_presets__numbers_of_the_sources(name):
    run, wrong = preset(name), {}
    for setting, want in expected(name).items():
        value = setting_of(run, setting)
        if value != (pytest.approx(want) if isinstance(want, float) else want):
            wrong[setting] = (value, want)
    assert not wrong


SHARED = ("data", "views", "batch", "model", "optim", "loop", "eval")
"Groups of settings that do not depend on the method."


@pytest.mark.parametrize("name", ["voc-732", "cityscapes-372"])
def test_presets__methods_share_what_they_share(name):
    runs = [preset(name, "--method", m) for m in METHODS]
    shared = [{group: getattr(r, group) for group in SHARED} for r in runs]
    assert all(groups == shared[0] for groups in shared)
    for cfg in (r.sup for r in runs):
        ohem = cfg.ohem, cfg.ohem_thresh, cfg.ohem_min_kept
        assert ohem == (name != "voc-732", 0.7, 100_000) and cfg.aux_weight == 0.4


def test_presets__each_line_names_its_source():
    text, section, missing = open_settings(), "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        needs_none = line.startswith(("#", "inherit", "method", "data.name", "data.root"))
        told = needs_none or re.search(r"\S\s+# \S", line)
        if section in PAPER and "=" in line and not told:
            missing.append((section, line))
    assert not missing and "[U] UniMatch V2" in text


def open_settings():
    from importlib import resources

    return (resources.files("dgcl_nb") / "settings.ini").read_text(encoding="utf-8")


MILLIONS = {
    "voc-732": 62.2,
    "cityscapes-372": 64.6,
    "voc-92-dinov2s": 22.3,
    "voc-92-dinov2b": 87.6,
    "cityscapes-186-dinov2s": 22.3,
}
"Parameters of a preset's network."


@pytest.mark.parametrize("name", MILLIONS)
def test_presets__the_network_can_be_built(name):
    run = preset(name)
    with torch.device("meta"):
        net = SegNetwork(run.model, 21)
    out = net(torch.empty(2, 3, run.views.crop, run.views.crop, device="meta"))
    side = -(-run.views.crop // 4)
    assert out.feats.shape[1:] == (run.model.decoder_channels, side, side)
    assert (out.aux is not None) == run.model.aux
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[name], abs=0.1)


def rates(name, *args):
    "The learning rates of a preset's groups of parameters; nothing of its network is computed."
    run = preset(name, "--method", "supervised", "--model.pretrained", "none", *args)
    with torch.device("meta"):
        method = build_method(run, 21)
    groups = method.param_groups("main", by_layer=run.optim.layer_decay < 1)
    return [g["lr"] for g in make_optimizer(groups, run.optim).param_groups]


def test_presets__learning_rates():
    assert rates("voc-732") == pytest.approx([0.001, 0.01])
    assert rates("cityscapes-372") == pytest.approx([0.01, 0.01])
    *blocks, head = rates("voc-92-dinov2s")
    assert head == pytest.approx(2e-4) and len(blocks) == 13 and max(blocks) == pytest.approx(1e-5)
    mean = np.exp(np.log(blocks).mean())
    assert mean == pytest.approx(5e-6, rel=0.1), "on average the published rate of all blocks"
    assert rates("voc-92-dinov2s", "--variant", "flat") == pytest.approx([5e-6, 2e-4])


# One batch on any number of processes


@pytest.mark.parametrize("world", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", ["voc-732", "cityscapes-372"])
def test_share_batch__the_total_stays(name, world):
    run = preset(name)
    one = share_batch(run, world)
    times = one.optim.accumulate * world
    assert one.batch.labelled * times == one.batch.unlabelled * times == 16
    assert one.batch.labelled <= run.batch.labelled
    assert one.optim.lr == run.optim.lr and one.steps == run.steps and share_batch(one, world) == one
    assert one.sup.ohem_min_kept == 100_000 * one.batch.labelled // run.batch.labelled


def test_share_batch__less_memory_is_more_accumulation():
    one = share_batch(preset("voc-732", "--batch.labelled", "1", "--batch.unlabelled", "1"), 2)
    assert (one.batch.labelled, one.batch.unlabelled, one.optim.accumulate, one.optim.lr) == (1, 1, 8, 0.01)
    three = share_batch(preset("voc-732", "--batch.labelled", "3", "--batch.unlabelled", "3"), 2)
    assert three.batch.labelled == 2, "the largest part that the share is a multiple of"


def test_share_batch__another_total_scales_the_learning_rate():

    def rate(*args):
        return share_batch(preset("voc-732", *args), 2).optim.lr

    assert rate("--optim.total_batch", "8") == pytest.approx(0.005)
    assert rate("--optim.total_batch", "0") == pytest.approx(0.005), "4 images on each of 2 processes"
    assert rate("--optim.total_batch", "8", "--optim.lr_batch", "0") == 0.01


def test_share_batch__what_cannot_be_shared():
    with pytest.raises(InputError, match="total_batch 16 cannot be shared by 3 processes; take 15"):
        share_batch(preset("voc-732"), 3)
    with pytest.raises(InputError, match="total_batch 16 cannot be shared by 32 processes; take 32"):
        share_batch(preset("voc-732"), 32)
    odd = preset("voc-732", "--batch.labelled", "2", "--batch.unlabelled", "1")
    with pytest.raises(InputError, match="1 of batch.labelled 2 images would need 0.5 of batch.unlabelled 1"):
        share_batch(odd, 16)
    with pytest.raises(InputError, match="accumulate is 2, but optim.total_batch 16 decides"):
        OptimConfig(accumulate=2, total_batch=16)


# Lists that are not there


@pytest.fixture
def voc(tmp_path):
    "A VOC of 14 images."
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for d in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / d).mkdir(parents=True)
    ids = [f"2007_{i:06d}" for i in range(14)]
    for n, i in enumerate(ids):
        Image.new("RGB", (20, 16), (n, 90, 9)).save(base / "JPEGImages" / f"{i}.jpg")
        Image.fromarray(np.full((16, 20), n % 3, np.uint8)).save(base / "SegmentationClass" / f"{i}.png")
    for part, names in dict(train=ids[:10], val=ids[10:]).items():
        (base / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names))
    return tmp_path


@pytest.mark.parametrize("name", ["voc-732", "voc-blended-662", "voc-92-dinov2s"])
def test_lists__the_error_says_where_they_go(name, voc, capsys, monkeypatch):
    monkeypatch.chdir(voc)
    monkeypatch.delenv("DGCL_NB_LISTS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["--preset", name, "--data.root", str(voc), "--device", "cpu", "--model.pretrained", "none"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in said and not list(voc.glob("runs/*"))
    place = f"splits/{preset(name).data.lists}"
    assert place in said and "labeled.txt" in said and "data.lists make" in said.replace("=", " "), said


def test_lists__our_own_draw_is_one_flag(voc):
    run = preset("voc-732", *flags({"data.root": voc, "data.lists": "make", "data.num_labelled": 4}))
    data = open_data(run.data)
    assert len(data.labelled) == 4 and len(data.unlabelled) == 6 and "own" in str(data.report)
