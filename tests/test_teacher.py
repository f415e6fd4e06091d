"""The teacher: equal to the bit to a slow loop, parts left alone, modes, and that it passes for a network."""

import copy
from types import SimpleNamespace

import pytest
import torch
from fakecuda import fake_cuda, move
from torch import nn

from dgcl_nb.core import InputError
from dgcl_nb.teacher import EMA_BUFFERS, Teacher, ema_decay_at, move_towards


class Small(nn.Module):
    "Images (B, 3, H, W) to logits and features, as a network of this project answers; with tied weights."

    def __init__(self, num_classes=4):
        super().__init__()
        self.cfg, self.num_classes = SimpleNamespace(proj_dim=8), num_classes
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.again = self.encoder[0]  # the same module under a second name
        self.dropout = nn.Dropout2d(0.5)
        self.classifier = nn.Conv2d(6, num_classes, 1)
        self.classifier2 = nn.Conv2d(6, num_classes, 1)
        self.register_buffer("table", torch.arange(5))
        self.register_buffer("scale", torch.ones(3))

    def encode(self, images):
        return [self.encoder(images)]

    def decode(self, maps, size, with_proj=True):
        feats = self.dropout(maps[-1])
        return SimpleNamespace(logits=self.classifier(feats), feats=feats, proj=feats if with_proj else None)

    def forward(self, images, with_proj=True):
        return self.decode(self.encode(images), images.shape[-2:], with_proj)


def student_of(seed=0):
    "A network whose parameters and buffers are all different from another's."
    torch.manual_seed(seed)
    net = Small()
    for p in net.parameters():
        p.data.add_(torch.randn_like(p))
    for b in net.buffers():
        b.add_(torch.rand_like(b) if b.is_floating_point() else seed + 1)
    return net


@torch.no_grad()
def slow_update(teacher, student, decay, buffers):
    "The update tensor by tensor."
    for mine, theirs in zip(teacher.parameters(), student.parameters()):
        mine.lerp_(theirs.detach(), 1 - decay)
    if buffers == "own":
        return
    for mine, theirs in zip(teacher.buffers(), student.buffers()):
        if buffers == "average" and mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def are_equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("buffers", EMA_BUFFERS)
def test_update__is_the_slow_loop_to_the_bit(decay, buffers):
    teacher = Teacher(student_of(0), decay, buffers)
    expected = copy.deepcopy(teacher.network)
    for seed in (1, 2, 3):
        student = student_of(seed)
        teacher.update(student)
        slow_update(expected, student, decay, buffers)
        assert are_equal(teacher.network, expected)


@pytest.mark.parametrize("buffers", EMA_BUFFERS)
def test_update__follows_the_formula(buffers):
    teacher, student = Teacher(student_of(0), 0.3, buffers), student_of(1)
    before = {k: v.clone() for k, v in teacher.network.state_dict().items()}
    teacher.update(student)
    params, now = dict(student.named_parameters()), student.state_dict()
    for name, value in teacher.network.state_dict().items():
        is_weight = name in params or name.startswith("again.")
        if is_weight or (buffers == "average" and value.is_floating_point()):
            torch.testing.assert_close(value, 0.3 * before[name] + 0.7 * now[name], msg=name)
        else:
            assert torch.equal(value, before[name] if buffers == "own" else now[name]), name


def test_update__takes_the_decay_of_the_moment():
    teacher, student = Teacher(student_of(0), 0.99), student_of(1)
    teacher.update(student, ema_decay_at(0, teacher.decay))
    assert are_equal(teacher.network, student)
    teacher.update(student_of(2), 1.0)
    assert torch.equal(teacher.network.classifier.weight, student.classifier.weight)


def test_ema_decay__early_updates_give_the_mean_of_all():
    teacher, students = Teacher(student_of(0), 0.999), [student_of(seed) for seed in range(1, 6)]
    for t, student in enumerate(students):
        teacher.update(student, ema_decay_at(t, teacher.decay))
    mean = torch.stack([s.classifier.weight for s in students]).mean(0)
    torch.testing.assert_close(teacher.network.classifier.weight, mean)
    assert ema_decay_at(10**6, 0.999) == 0.999 and ema_decay_at(0, 0.0) == 0.0


def test_exclude__leaves_a_part_alone():
    teacher, student = Teacher(student_of(0), 0.5), student_of(1)
    before = copy.deepcopy(teacher.network)
    teacher.update(student, exclude=["classifier", "encoder.1"])
    now = teacher.network
    for part in ("classifier", "encoder.1"):
        assert are_equal(now.get_submodule(part), before.get_submodule(part))  # statistics too
    assert not torch.equal(now.classifier2.weight, before.classifier2.weight)  # the name begins alike
    assert not torch.equal(now.encoder[0].weight, before.encoder[0].weight)


def test_exclude__everything_is_no_move():
    target, source = student_of(0), student_of(1)
    before = copy.deepcopy(target)
    move_towards(target, source, 0.0, "own", [name for name, _ in target.named_parameters()])
    assert are_equal(target, before)


@pytest.mark.parametrize("exclude", [["clasifier"], ["classifier.weights"], ["encoder.9"]])
def test_exclude__must_name_something(exclude):
    with pytest.raises(InputError, match="is no part of the network"):
        move_towards(student_of(0), student_of(1), 0.5, exclude=exclude)


def test_move_towards__serves_networks_that_are_trained():
    student, assistant = student_of(0), student_of(1)
    move_towards(student, assistant, 0.9, buffers="own", exclude=["classifier"])
    assert all(p.requires_grad and p.grad_fn is None for p in student.parameters())
    student(torch.rand(2, 3, 4, 4)).logits.sum().backward()
    assert student.encoder[0].weight.grad is not None and assistant.encoder[0].weight.grad is None


def test_move_towards__waits_for_nothing_and_starts_few_kernels():
    teacher, student = move(Teacher(student_of(0), 0.9)), move(student_of(1))
    with fake_cuda() as seen:
        teacher.update(student)
    assert not seen.waits, seen.table()
    assert dict(seen.launches) == {"_foreach_lerp_": 1, "_foreach_copy_": 1}


def test_teacher__is_a_copy_without_gradients():
    student = student_of(0)
    teacher = Teacher(student)
    assert are_equal(teacher.network, student)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    theirs = {p.data_ptr() for p in student.parameters()}
    assert not any(p.data_ptr() in theirs for p in teacher.parameters())
    assert teacher.network.again is teacher.network.encoder[0]
    assert not teacher(torch.rand(1, 3, 4, 4)).logits.requires_grad


def test_teacher__lets_gradients_through_to_what_it_is_given():
    teacher = Teacher(student_of(0))
    maps = [m.requires_grad_() for m in teacher.encode(torch.rand(1, 3, 4, 4))]
    teacher.decode(maps, (4, 4)).logits.sum().backward()
    assert maps[0].grad.abs().sum() > 0


class Holder(nn.Module):
    "What a method is to its teacher."

    def __init__(self, **settings):
        super().__init__()
        self.student = student_of(0)
        self.teacher = Teacher(self.student, **settings)


def test_modes__labels_are_those_of_evaluation_whatever_the_method_does():
    method, images = Holder(), torch.rand(2, 3, 4, 4)
    for mode in (True, False):
        method.train(mode)
        assert not any(m.training for m in method.teacher.network.modules())
        assert torch.equal(method.teacher(images).logits, method.teacher(images).logits)
    assert torch.equal(method.teacher.network.encoder[1].running_mean, method.student.encoder[1].running_mean)


def test_modes__a_noisy_teacher_follows_the_method():
    method, images = Holder(is_noisy=True, buffers="own"), torch.rand(2, 3, 4, 4)
    method.train()
    assert all(m.training for m in method.teacher.network.modules())
    before = method.teacher.network.encoder[1].running_mean.clone()
    assert not torch.equal(method.teacher(images).logits, method.teacher(images).logits)
    assert not torch.equal(method.teacher.network.encoder[1].running_mean, before)
    method.eval()
    assert not any(m.training for m in method.teacher.modules())


def test_modes__one_noisy_answer_leaves_the_mode_as_it_was():
    teacher, images = Teacher(student_of(0)), torch.rand(2, 3, 4, 4)
    calm = teacher(images).logits
    torch.manual_seed(1)
    noisy = teacher.noisy(images, with_proj=False)
    assert noisy.proj is None and not torch.equal(noisy.logits, calm)
    assert not teacher.network.training
    with pytest.raises(RuntimeError):
        teacher.noisy(torch.rand(2, 5, 4, 4))
    assert not teacher.network.training


def test_teacher__passes_for_a_network():
    student = student_of(0)
    teacher, images = Teacher(student), torch.rand(2, 3, 4, 4)
    out = teacher(images, with_proj=False)
    student.eval()
    assert (
        torch.equal(out.logits, student(images).logits)
        and out.proj is None
        and out.feats.shape == (2, 6, 4, 4)
    )
    assert teacher.cfg is teacher.network.cfg and teacher.num_classes == 4
    assert torch.equal(teacher.decode(teacher.encode(images), (4, 4)).logits, out.logits)


def test_teacher__state_is_the_networks():
    teacher, other = Teacher(student_of(0)), Teacher(student_of(1))
    assert [k.removeprefix("network.") for k in teacher.state_dict()] == list(student_of(0).state_dict())
    other.load_state_dict(teacher.state_dict())
    assert are_equal(teacher, other)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(decay=-0.1), "between 0 and 1"),
        (dict(decay=2), "decay is 2"),
        (dict(buffers="mean"), "buffer policy"),
    ],
)
def test_teacher__refuses(settings, message):
    with pytest.raises(InputError, match=message):
        Teacher(student_of(0), **settings)
