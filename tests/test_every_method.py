"""What every method must stand, whatever it does: odd batches, gradients that stay where they belong, a stop
anywhere, two processes, and to be looked at. A method is tested here as soon as it is registered."""

import dataclasses
import json
import os
import re

import pytest
import torch
from every import (
    CASES,
    EARLY,
    LATE,
    NUM_CLASSES,
    SUP_ONLY,
    batch_of,
    make_method,
    make_optimizers,
    take_step,
    trained_in,
)
from helpers import (
    First,
    equal_states,
    few_images,
    metrics_of,
    start_ranks,
    state_of,
    tiny_run,
    wait_for,
)
from test_report import notes

from dgcl_nb import config, engine, evaluate, predict, report
from dgcl_nb.checkpoints import init_from_run, trained_networks
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import InputError
from dgcl_nb.data.segdata import SegData
from dgcl_nb.engine import Stopped, fit
from dgcl_nb.looking import report_page
from dgcl_nb.looking.curves import curves
from dgcl_nb.looking.panels import score_panel
from dgcl_nb.looking.run_state import heading_of
from dgcl_nb.looking.runs import open_run
from dgcl_nb.looking.watcher import Watcher
from dgcl_nb.run_folder import read_torch
from dgcl_nb.training import Callback
from dgcl_nb.widgets.explorer import explore

NAMES = tuple(config.METHODS)
every_method = pytest.mark.parametrize("name", NAMES)

REFUSED = {}
"(method, case) -> what its InputError says, where a method states that it cannot."
LEARNS_ON_WEAK = {"cct", "gct", "cps", "unimatch"}
"Methods with a loss on weak views; for the others these make labels only, and no gradient may reach them."


@pytest.fixture(scope="module", autouse=True)
def light():
    "Val has 12 images, and pages lack plotly's code."
    patch = pytest.MonkeyPatch()
    patch.setattr(engine, "build_data", few_images)
    patch.setattr(evaluate, "open_data", lambda cfg: few_images(tiny_run()))
    patch.setattr(report_page, "plotly_packed", lambda: "")
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    "The folder of a finished tiny run of a method, trained once."
    place, done = tmp_path_factory.mktemp("runs"), set()

    def folder(name):
        if name not in done:
            fit(tiny_run(name, out=place / name), callbacks=[])
            done.add(name)
        return place / name

    return folder


def names_of(name):
    "The names of a method's scored networks."
    return list(build_method(tiny_run(name), NUM_CLASSES, 0).scored())


# One step


def take_steps(name, case):
    method, run = make_method(name, case)
    optimizers = make_optimizers(method, run)
    for step in (SUP_ONLY, EARLY, LATE):
        batch = batch_of(method, run, step, case)
        for phase, found in take_step(method, optimizers, batch, step).items():
            terms = {n: float(value.detach()) for n, (value, _) in found.losses.terms.items()}
            assert all(v == v and abs(v) < 1e6 for v in terms.values()), f"{phase} of step {step}: {terms}"
    return method


@every_method
@pytest.mark.parametrize("case", CASES)
def test_step__odd_batches(name, case):
    if said := REFUSED.get((name, case)):
        with pytest.raises(InputError, match=said):
            take_steps(name, CASES[case])
        return
    method = take_steps(name, CASES[case])
    values = dict(method.named_parameters()) | {
        n: b for n, b in method.named_buffers() if n.endswith(("running_mean", "running_var"))
    }
    assert not [n for n, v in values.items() if not v.isfinite().all()]


ODD = ("plain", "no labelled pixel", "no valid unlabelled pixel", "nobody is sure", "no pixel of either")


@every_method
@pytest.mark.parametrize("case", ODD)
def test_step__a_term_that_is_nothing_says_why(name, case):
    "In the supervised start, and after a few steps on plain batches in a step whose batch is odd."
    method, run = make_method(name, CASES["nobody is sure" if case == "nobody is sure" else "plain"])
    found, optimizers = {}, make_optimizers(method, run)
    for step in (SUP_ONLY, 1, EARLY, LATE):
        batch = batch_of(method, run, step, CASES[case if step == LATE else "plain"])
        losses = [phase.losses for phase in take_step(method, optimizers, batch, step).values()]
        values = {n: float(value.detach()) for part in losses for n, (value, _) in part.terms.items()}
        found[step] = values, {n for part in losses for n in part.reasons()}
    values, told = found[LATE]
    silent = {n for n, value in values.items() if value == 0} - told
    assert not silent, f"{silent} is 0 and nobody says why; told: {told}"
    begun, told = found[SUP_ONLY]
    missing = values.keys() - begun.keys() - told
    assert not missing, f"{missing} is not there in the supervised start, and nobody says why"


@every_method
def test_step__gradients_reach_what_the_phase_trains_and_nothing_else(name):
    method, run = make_method(name)
    optimizers = make_optimizers(method, run)
    for step in (SUP_ONLY, LATE):
        batch = batch_of(method, run, step)
        for phase, found in take_step(method, optimizers, batch, step).items():
            stray = found.reached - trained_in(method, phase)
            assert not stray, f"{phase} of step {step} reaches {sorted(stray)[:3]}"
    for phase, found in take_step(method, optimizers, batch_of(method, run, LATE), LATE).items():
        names = {id(p): n for n, p in method.named_parameters()}
        for group, parameters in method.param_groups(phase).items():
            reached = found.reached & {names[id(p)] for p in parameters}
            assert reached, f"no gradient reaches {group} of {phase}"


@every_method
def test_step__every_network_is_trained_by_an_optimiser_or_by_none(name):
    method, _ = make_method(name)
    moved = set().union(*(trained_in(method, phase) for phase in method.phases))
    wants = {n for n, p in method.named_parameters() if p.requires_grad}
    assert moved == wants, "what no phase trains takes no gradient (Teacher, requires_grad_(False))"


@every_method
def test_step__labels_carry_no_gradient(name):
    if name in LEARNS_ON_WEAK:
        return
    method, run = make_method(name)
    batch = batch_of(method, run, LATE)
    batch.images_u_w.requires_grad_()
    take_step(method, make_optimizers(method, run), batch, LATE)
    grad = batch.images_u_w.grad
    assert grad is None or not grad.any()


# Memory


@every_method
def test_state_dict__holds_all_that_a_method_remembers(name):
    "After each step it goes on equal in a fresh method that got nothing but the state."
    method, run = make_method(name)
    plain = dict(optimizer="sgd", lr=1e-3, weight_decay=0.0)
    for step in range(1, 7):
        heir = build_method(dataclasses.replace(run, seed=1), NUM_CLASSES, 0)
        heir.load_state_dict(method.state_dict())
        for one in (method, heir):
            optimizers = make_optimizers(one, run, **plain)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["momentum"] = 0.0
            take_step(one, optimizers, batch_of(one, run, step), step)
        assert equal_states(method.state_dict(), heir.state_dict()), f"step {step}"
        assert method.describe() == heir.describe()


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            t.control.stop()


@every_method
def test_resume__to_the_bit(name, run_of, tmp_path):
    "Stopped in the supervised start, and again in the middle of the rest."
    parts = tmp_path / "parts"
    for step in (1, 5):
        with pytest.raises(Stopped):
            fit(tiny_run(name, out=parts, resume=step > 1), callbacks=[StopAfter(step)])
    fit(tiny_run(name, out=parts, resume=True), callbacks=[])
    assert metrics_of(run_of(name)) == metrics_of(parts)
    one, other = state_of(run_of(name)), state_of(parts)
    for key in ("method", "optimizers", "best", "windows"):
        assert equal_states(one[key], other[key]), key


@every_method
def test_init_from__takes_every_network_of_a_run_of_its_kind(name, run_of):
    best = read_torch(run_of(name) / "checkpoints" / "best.pt")
    method = build_method(tiny_run(name, seed=5), NUM_CLASSES, 0)
    init_from_run(method, run_of(name))
    assert list(best["networks"]) == names_of(name)
    for network, module in method.scored().items():
        assert equal_states(dict(module.state_dict()), dict(best["networks"][network])), network


@every_method
def test_init_from__a_supervised_run(name, run_of):
    "One trained network takes its weights; of two that are trained the second keeps its own start."
    best = read_torch(run_of("supervised") / "checkpoints" / "best.pt")
    method = build_method(tiny_run(name, seed=5), NUM_CLASSES, 0)
    before = {n: p.clone() for n, p in method.named_parameters()}
    init_from_run(method, run_of("supervised"))
    assert [n for n, p in method.named_parameters() if not torch.equal(p, before[n])]
    trained = [method.scored()[network] for network in trained_networks(method)]
    same = [equal_states(dict(network.state_dict()), dict(best["predictor"])) for network in trained]
    assert sum(same) == 1


# Two processes

IN_CI = ("cps", "gct", "u2pl")


def one_rank(folder, names):
    "What each of the two processes does; it leaves the state of each method in `rank{r}.pt`."
    trainings, start_training, found = [], engine.start_training, {}

    def start_and_keep(*args):
        trainings.append(start_training(*args))
        return trainings[-1]

    engine.start_training = start_and_keep
    for name in names:
        result = fit(tiny_run(name, out=folder / name), callbacks=[])
        found[name] = dict(state=trainings[-1].method.state_dict(), miou=result["miou"])
    torch.save(found, folder / f"rank{os.environ['RANK']}.pt")


def check_ranks(names, place):
    codes = wait_for(start_ranks(one_rank, place, names, log=place / "log"))
    assert codes == [0, 0], "".join((place / f"log{r}").read_text() for r in (0, 1))
    zero, one = (torch.load(place / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    for name in names:
        assert equal_states(zero[name], one[name]), f"the ranks of {name} differ"
        assert equal_states(state_of(place / name)["method"], dict(zero[name]["state"])), name
        assert state_of(place / name)["made_with"]["processes"] == 2


def test_processes__ranks_are_identical_to_the_bit(tmp_path):
    check_ranks(IN_CI, tmp_path)


@pytest.mark.slow
@every_method
def test_processes__ranks_are_identical_for_every_method(name, tmp_path):
    check_ranks([name], tmp_path)


# Looking


@every_method
def test_result__names_every_network_the_predictor_first(name, run_of):
    result = json.loads((run_of(name) / "result.json").read_text())
    assert list(result["miou"]) == names_of(name) and result["predictor"] == names_of(name)[0]
    assert all(0 <= miou <= 100 for miou in result["miou"].values())


@every_method
def test_report__shows_its_networks(name, run_of):
    page, figures = report.fitting_page(report.open_runs([run_of(name)]))
    for network in names_of(name):
        assert f"mIoU of the {network}" in page and re.search(rf"<th[^>]*>{network}</th>", page)
    assert notes(page) == [], "a view or a figure failed"
    assert {"curves"} < set(figures)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "supervised"])
def test_report__beside_the_supervised_run(name, run_of):
    page, figures = report.fitting_page(report.open_runs([run_of(name), run_of("supervised")]))
    for network in {*names_of(name), *names_of("supervised")}:
        assert f"mIoU of the {network}, last step" in page
    assert {"clusters", "predictions", "curves"} <= set(figures)


@every_method
def test_monitor__shows_its_networks(name, run_of):
    head = heading_of(open_run(run_of(name)))
    assert head["state"] == "finished" and not head["problems"]
    (fact,) = (f for f in head["facts"] if f.startswith("mIoU "))
    assert all(f"{network} " in fact for network in names_of(name))
    records = open_run(run_of(name)).records
    assert list(score_panel(records).lines.values()) == names_of(name)
    assert len(curves(records).data) >= len(names_of(name))
    seen = Watcher(run_of(name)).look()
    assert seen.records and len(seen.maps) == len(seen.states) == 2  # before step 1, and at the end


@every_method
def test_explorer__shows_its_features(name, run_of):
    *_, snap = open_run(run_of(name)).load_all()
    view = explore([snap])
    assert len(view.states[0]) > 50 and view.scene["steps"][0]["n"] == len(view.states[0])
    assert 0 <= snap.kept.mean() <= 1


@every_method
def test_predict__by_its_predictor(name, run_of, tmp_path, capsys):
    from PIL import Image

    image = few_images(tiny_run()).val[0]["image"].permute(1, 2, 0).numpy()
    Image.fromarray(image).save(tmp_path / "a.png")
    for weights in ("best", "last"):
        out = tmp_path / weights
        how = ["--out", str(out), "--weights", weights]
        predict.main([str(run_of(name)), str(tmp_path / "a.png"), *how])
        said = capsys.readouterr()
        assert f"{names_of(name)[0]} of " in said.out and (out / "index" / "a.png").is_file()


@every_method
def test_evaluate__scores_its_networks(name, run_of):
    scores = evaluate.evaluate_run(run_of(name), device="cpu")
    result = json.loads((run_of(name) / "result.json").read_text())
    best, last = ([r for r in scores["networks"] if r["weights"] == kind] for kind in ("best", "last"))
    assert [r["network"] for r in best] == names_of(name)[:1]
    assert {r["network"]: r["miou"] for r in last} == pytest.approx(result["miou"], abs=1e-3)
    assert [r["network"] for r in last if r["is_predictor"]] == names_of(name)[:1]
    assert all(network in evaluate.format_scores(scores) for network in names_of(name))


# Settings


@every_method
def test_settings__released_variant_parses_and_builds(name):
    run = parse_run(["--method", name, "--variant", "released"])
    assert run.variant == "released"
    tiny = tiny_run(name)
    groups = {group: getattr(run, group) for group in config.METHODS[name].settings}
    build_method(dataclasses.replace(tiny, **groups), NUM_CLASSES, 0)


# Learning

FOUR_SCENES = dict(
    steps=200,
    batch__labelled=4,
    batch__unlabelled=4,
    views__crop=128,
    views__scale=(2.0, 2.0),
    views__jitter_prob=0.0,
    views__grey_prob=0.0,
    views__blur_prob=0.0,
    eval__scales=(2.0,),
    model__dropout=0.0,
    model__decoder_channels=64,
    model__low_level_channels=16,
    optim__lr=3e-3,
    optim__encoder_lr_scale=1.0,
    loop__snapshots=0,
    loop__checkpoints=0,
)
"At twice their size, as the digits' strokes are thinner than a cell of the feature map; colours as they are."

IN_SO_FEW_STEPS = dict(
    mean_teacher=dict(mean_teacher__weight=10.0),  # at 100 the student is held to its slow teacher: 33 %
    ps_mt=dict(ps_mt__momentum=0.9),  # half way between two networks, the teachers are none: 76 %
)
"What a run of a thousand steps does not need."


def four_scenes(run):
    "Four labelled scenes, which are the unlabelled ones and val, too."
    data = config.build_data(run)
    four = First(data.labelled, 4)
    fields = {f.name: getattr(data, f.name) for f in dataclasses.fields(data)}
    return SegData(**fields | dict(labelled=four, unlabelled=four, val=four))


@pytest.mark.slow
@every_method
def test_fit__learns_four_scenes_by_heart(name, tmp_path, monkeypatch):
    "What is trained does; a running mean follows it."
    monkeypatch.setattr(engine, "build_data", four_scenes)
    method = build_method(tiny_run(name), NUM_CLASSES, 0)
    settings = FOUR_SCENES | IN_SO_FEW_STEPS.get(name, {})
    result = fit(tiny_run(name, out=tmp_path / "run", **settings), callbacks=[])
    print(f"\n{name}: {result['miou']}")
    assert max(result["miou"][network] for network in trained_networks(method)) >= 90
