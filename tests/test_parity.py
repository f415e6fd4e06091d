"Python and the page have one mind: the same filter, neighbours, numbers, colours and maps, asked of node."

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from sync_gate import ROOT

pytest.importorskip("anywidget")
from dgcl_nb.looking.layout_time import joint_layout
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.runs import open_run
from dgcl_nb.widgets.front import cividis, json_with_bytes, pack
from dgcl_nb.widgets.maps import known_density, pack_maps
from dgcl_nb.widgets.scene import COARSE, COLUMN_TYPES, carry_rows, make_scene
from dgcl_nb.widgets.state import COLUMNS, ExplorerState, csv_text

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="node is not installed (on Debian: apt-get install nodejs)"
)


@pytest.fixture(scope="module")
def snaps(tmp_path_factory):
    return open_run(
        make_demo_run(tmp_path_factory.mktemp("runs") / "demo", steps=300, snapshots=3)
    ).load_all()


@pytest.fixture(scope="module")
def states(snaps):
    "Three steps; no density is known at the first, and at the second it is known of every other point."
    xys = joint_layout([s.feats for s in snaps], kind="pca")
    states = [ExplorerState.from_snapshot(s, xy) for s, xy in zip(snaps, xys)]
    half = np.where(np.arange(len(states[1])) % 2, states[1].density, np.nan)
    return [states[0], replace(states[1], density=half.astype(np.float32)), states[2]]


@pytest.fixture(scope="module")
def scene(states, snaps):
    return make_scene(states, snaps)


def ask(question, **given):
    "What tests/js/answer.mjs answers."
    text = json_with_bytes(dict(given, question=question))
    command = [NODE, str(ROOT / "tests" / "js" / "answer.mjs")]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numbers(values):
    "Numbers as JSON gives them: null is NaN."
    return np.array([np.nan if value is None else value for value in values], float)


def rows_of(rows):
    return np.stack([numbers(row) for row in rows])


def test_scene__columns_arrive_as_they_are(scene, states):
    for state, columns in zip(states, ask("columns", scene=scene)):
        for (name, dtype), got in zip(COLUMN_TYPES.items(), columns):
            wanted = getattr(state, name).astype(dtype).ravel().astype(float)
            np.testing.assert_array_equal(numbers(got), wanted, err_msg=name)
        kind, right = columns[len(COLUMN_TYPES) :]
        assert kind == state.kind.tolist()
        assert right == (state.label == state.pseudo).astype(int).tolist()


def test_scene__rounded_columns_arrive_within_half_a_level(states, snaps):
    coarse = make_scene(states, snaps, coarse=True)
    assert len(coarse["xy"]) == sum(4 * len(state) for state in states)
    for state, columns in zip(states, ask("columns", scene=coarse)):
        for (name, dtype), got in zip(COLUMN_TYPES.items(), columns):
            wanted = getattr(state, name).astype(dtype).ravel().astype(float)
            half = coarse["levels"][name][1] * 0.51 if name in COARSE else 0
            np.testing.assert_allclose(numbers(got), wanted, rtol=0, atol=half, err_msg=name)


def random_conditions(count, num_steps, num_classes):
    "Ranges, one-sided ones and lists of classes, each of them also absent."
    rng = np.random.default_rng(0)

    def a_range(low, high):
        ends = np.sort(rng.uniform(low, high, 2)).round(3).tolist()
        return [None, ends, [low, ends[1]], [ends[0], high]][rng.integers(4)]

    def some_classes():
        chosen = np.flatnonzero(rng.random(num_classes) < 0.5).tolist()
        return [None, chosen, []][rng.choice(3, p=[0.4, 0.5, 0.1])]

    for _ in range(count):
        ranges = dict(density=a_range(-1, 1), confidence=a_range(0, 1))
        yield dict(ranges, step=int(rng.integers(num_steps)), classes=some_classes())


def test_filter__shows_the_same_rows(scene, states):
    conditions = [*random_conditions(200, len(states), len(states[0].class_names))]
    edges = [-1, float(states[2].density[5])]  # a bound that is a value: it is included
    conditions.append(dict(step=2, density=edges, confidence=None, classes=None))
    sizes = set()
    for condition, got in zip(conditions, ask("shown", scene=scene, conditions=conditions)):
        state = states[condition["step"]]
        mask = state.mask(condition["density"], condition["confidence"], condition["classes"])
        assert got["rows"] == np.flatnonzero(mask).tolist(), condition
        assert got["count"] == mask.sum()
        sizes.add(got["count"])
    assert len(sizes) > 50


def test_neighbours__are_those_of_the_state(scene, states):
    rows = [0, 7, len(states[1]) - 1]
    for row, got in zip(rows, ask("neighbours", scene=scene, step=1, rows=rows)):
        wanted, cosines = states[1].neighbours(row, 8)
        assert got["rows"] == wanted.tolist()
        np.testing.assert_allclose(got["cosines"], cosines, atol=1 / 32767)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_summary__is_that_of_the_state(scene, states, step):
    rows = list(range(0, len(states[step]), 3))
    got, wanted = ask("summary", scene=scene, step=step, rows=rows), states[step].summary(rows)
    names = states[step].class_names
    assert {names[c]: count for c, count in got["mix"]} == wanted["classes"]
    for name in ("density", "confidence", "right"):
        if wanted[name] is None:
            assert got[name] is None
        else:
            assert got[name] == pytest.approx(wanted[name], abs=1e-6)


def test_csv__is_the_table_of_the_state(scene, states):
    rows = list(range(0, len(states[1]), 5))
    got = [line.split(",") for line in ask("csv", scene=scene, step=1, rows=rows).splitlines()]
    wanted = [line.split(",") for line in csv_text(states[1].table(rows)).splitlines()]
    assert got[0] == wanted[0]
    is_number = {got[0].index(name) for name in ("x", "y", "density", "confidence")}
    for mine, theirs in zip(got[1:], wanted[1:], strict=True):
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if i in is_number and a and b:
                a, b = float(a), pytest.approx(float(b), abs=1e-5)
            assert a == b, got[0][i]


def test_rows__are_carried_to_the_same_cells(states):
    order = np.random.default_rng(1).permutation(len(states[0]))[:200]
    moved = replace(states[1], **{name: getattr(states[1], name)[order] for name in COLUMNS})
    rows = list(range(0, 300, 7))
    got = ask("carried", scene=make_scene([states[0], moved]), rows=rows)
    assert sorted(got) == carry_rows(rows, states[0], moved)


def test_colours__of_values_and_of_the_unknown():
    values = np.append(np.linspace(-0.2, 1.2, 300), np.nan).astype(np.float32)
    got = np.array(ask("colours", values=pack(values, "float32")))
    # a half is rounded to the even number here, and up there
    assert np.abs(got - cividis(values)).max() <= 1
    assert got[-1].tolist() == [150, 150, 150]


def test_maps__arrive_as_they_are(snaps):
    per_k = snaps[2].density_per_k.copy()
    per_k[:, :, :3] = np.nan
    snaps = [snaps[1], replace(snaps[2], density_per_k=per_k)]
    densities = ["density", *(f"density_{k}" for k in snaps[0].num_neighbors)]
    bounds = dict(prediction=0, pseudo_label=0, confidence=1e-4, entropy=1e-4)
    layers = [*bounds, *densities]
    got = dict(zip(layers, ask("maps", values=pack_maps(snaps), layers=layers)))
    for name, bound in bounds.items():
        wanted = np.concatenate([getattr(s, name) for s in snaps]).astype(float)
        np.testing.assert_allclose(rows_of(got[name]), wanted.reshape(len(wanted), -1), atol=bound)
    known = np.concatenate([known_density(s) for s in snaps])
    factor = snaps[0].target.shape[1] // known.shape[2]
    for name, wanted in zip(densities, known.transpose(1, 0, 2, 3)):
        pixels = wanted.repeat(factor, 1).repeat(factor, 2)
        np.testing.assert_allclose(rows_of(got[name]), pixels.reshape(len(pixels), -1), atol=1e-4)
