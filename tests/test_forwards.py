"""Images a step through encoders, beside the summary table of the methods' specifications (its section 15).

Figures are multiples of B, for B labelled + B unlabelled images. Where ours differ from the table's, the
reason stands here; methods that are not there yet are skipped.
"""

import pytest
from toys import Pair, Toy

from dgcl_nb.config import METHODS, parse_run
from dgcl_nb.forwards import Forwards, Passes, count_forwards, counting, passes_of

B = 3
# method -> flags, then (with gradient, without) of the table, and ours where it differs
SPECIFIED = {
    "supervised": ("", (1, 0), None),
    "self_training": ("", (2, 2), (2, 1)),  # the teacher labels; it is not asked about labelled images again
    "mean_teacher": ("", (2, 2), (2, 1)),  # the same
    "cutmix": ("", (2, 2), (2, 1)),  # both partners of a mix are in one unlabelled batch, labelled once
    "cct": ("", (2, 0), None),
    "gct": ("", (4, 4), (4, 0)),  # maps of both networks are computed once, for both phases or for each
    "cps": ("", (4, 0), None),
    "cps-cutmix": ("--cps.cutmix True", (4, 4), (4, 2)),  # the same, by both networks
    "u2pl": ("", (2, 3), None),
    "ps_mt": ("", (2, 2), None),
    "pcr": ("", (2, 1), None),
    "gta_seg": ("", (4, 3), (4, 1)),  # the teacher is not asked about labelled and mixed images again
    "dgcl": ("", (3, 2), (2, 1)),  # the digits preset contrasts the mixed view: no third student batch
    "dgcl, clean view": ("--dgcl.contrast_view clean", (3, 2), (3, 1)),  # features of labelled: the student's
    "fixmatch": ("", (2, 1), None),  # not in the table: ours
    "unimatch": ("", (4, 1), None),  # the same; perturbed maps are decoded again
}


def counted(name):
    flags, table, ours = SPECIFIED[name]
    method = name.partition("-")[0].partition(",")[0]
    if method not in METHODS:
        pytest.skip(f"{method} is not there yet")
    words = f"--method {method} --batch.labelled {B} --batch.unlabelled {B} {flags}".split()
    return count_forwards(parse_run(words)), table, ours or table


@pytest.mark.parametrize("name", SPECIFIED)
def test_forwards__beside_the_specification(name):
    found, table, ours = counted(name)
    print(f"{name}: {found.later.show()} images of {B} + {B}; specified {table[0]}B / {table[1]}B")
    assert (found.later.grad / B, found.later.no_grad / B) == ours


@pytest.mark.parametrize("name", SPECIFIED)
def test_forwards__supervised_start_sees_labels_only(name):
    found, *_ = counted(name)
    if found.start is None:
        assert name == "supervised"
    else:
        networks, rest = divmod(found.start.grad, B)
        assert networks in (1, 2, 3) and rest == 0 and found.start.no_grad == 0


@pytest.mark.parametrize(
    "toy, passes", [(Pair, Passes(4 * B, 2 * B)), (Toy, Passes(4 * B, 0))], ids=["Pair", "Toy"]
)
def test_forwards__several_networks_and_phases(monkeypatch, toy, passes):
    name = f"counted_{toy.__name__.lower()}"
    monkeypatch.setitem(METHODS, name, toy)
    words = f"--method {name} --batch.labelled {B} --batch.unlabelled {B}".split()
    assert count_forwards(parse_run(words)).later == passes


@pytest.mark.parametrize("method", METHODS)
def test_forwards__of_presets_for_larger_images_too(method):
    for preset in ("neu-77", "camvid-46", "voc-732"):
        run = parse_run(["--preset", preset, "--method", method])
        assert count_forwards(run).later.grad >= run.batch.labelled


def test_forwards__not_the_number_of_seeds_or_steps():
    runs = [parse_run(["--method", "dgcl", "--seed", str(s), "--steps", str(100 + s)]) for s in (0, 1)]
    first, second = map(count_forwards, runs)
    assert first == second == Forwards(Passes(8, 0), Passes(16, 8))


def test_forwards__hooks_are_gone(monkeypatch):
    method = Pair.__new__(Pair)
    super(Pair, method).__init__(None, 3, None)
    with pytest.raises(RuntimeError), counting(method) as counts:
        raise RuntimeError
    assert passes_of(counts) == Passes()
