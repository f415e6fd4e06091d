"""A pretended CUDA device: it shows on any machine where code would make the host wait for a GPU.

A `FakeCuda` is a tensor that says it lies on cuda:0 and holds its values on the CPU, so code computes real
numbers and takes the branches that it would take. Every operation is seen, and three things are noted:

- **waits**: what makes the host wait until the device has caught up, by source line. It is what
  `torch.cuda.set_sync_debug_mode` reports: reading a value (`.item()`, `int(x)`, `if x:`, `.tolist()`),
  results whose size depends on values (`nonzero`, `masked_select`, `unique`, `bincount`, an index of
  booleans), and copies between the devices that are not `non_blocking`.
- **launches**: operations that start a kernel, by name. Views start none.
- **mixes**: tensors of both devices in one operation are a `DeviceMix`, as CUDA would refuse them.

    with fake_cuda() as seen:
        loss = supervised_loss(on_cuda(logits), on_cuda(targets))
        loss.backward()
    assert not seen.waits, seen.table()

`move(module)` puts the parameters and buffers of a module there. What it cannot show: times, memory, streams,
other numbers of another device, and generators of the device (`torch.Generator("cuda")` needs a real one).
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
ROOT = Path(__file__).resolve().parent.parent
aten = torch.ops.aten

WAITING = {
    aten._local_scalar_dense.default: "a value is read",  # .item(), int(), float(), bool()
    aten.equal.default: "equal",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten.bincount.default: "bincount",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique_consecutive",
}
"Operations that always wait."
INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
}
"Operations that take indices from the CPU too, and wait for indices of booleans."
STRICT = set("index_select gather scatter_ index_copy_ index_add index_add_ index_fill_".split())
"Operations that refuse even a single number from the CPU; others take it as a scalar."
VIEWS = set(
    "view _unsafe_view view_as _reshape_alias permute transpose t slice select split split_with_sizes chunk "
    "expand unsqueeze squeeze detach alias as_strided unbind diagonal unfold lift_fresh set_ is_same_size "
    "prim empty empty_like new_empty empty_strided new_empty_strided _local_scalar_dense "
    "sym_size sym_stride".split()
)
"Operations that start no kernel."


class DeviceMix(RuntimeError):
    "An operation on tensors of both devices."


def place():
    "The source line that runs now: the innermost one outside torch, the standard library and this file."
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts and path != Path(__file__).resolve():
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class Seen:
    "What happened on the pretended device since the last `reset`."

    def __init__(self):
        self.reset()

    def reset(self):
        self.waits = Counter()  # (source line, kind) -> times
        self.launches = Counter()  # operation -> times

    def wait(self, kind):
        self.waits[place(), kind] += 1

    def table(self):
        "The waits, the most frequent line first."
        rows = [f"  {n:4d}  {where}  {kind}" for (where, kind), n in self.waits.most_common()]
        total = f"{sum(self.waits.values())} waits, {sum(self.launches.values())} launches"
        return "\n".join([total, *rows])


SEEN = Seen()


class FakeCuda(torch.Tensor):
    "A tensor that says it lies on cuda:0; its values are `elem`, on the CPU."

    @staticmethod
    def __new__(cls, elem):
        layout = dict(strides=elem.stride(), storage_offset=elem.storage_offset(), layout=elem.layout)
        made = torch.Tensor._make_wrapper_subclass(cls, elem.size(), dtype=elem.dtype, device="cpu", **layout)
        made.elem = elem
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    def __repr__(self):
        return f"FakeCuda({self.elem})"

    def __reduce_ex__(self, protocol):
        return FakeCuda, (self.elem.contiguous(),)

    def __deepcopy__(self, memo):
        copied = FakeCuda(self.elem.clone(memory_format=torch.preserve_format))
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return copied


def on_cuda(x):
    "A tensor on the pretended device, with gradients of its own if it had any."
    return FakeCuda(x.detach().clone(memory_format=torch.preserve_format)).requires_grad_(x.requires_grad)


def move(module):
    "A module's parameters and buffers onto the pretended device, in place."
    for m in module.modules():
        for name, p in m._parameters.items():
            if p is not None and not isinstance(p, FakeCuda):
                m._parameters[name] = torch.nn.Parameter(FakeCuda(p.detach()), p.requires_grad)
        for name, b in m._buffers.items():
            if b is not None and not isinstance(b, FakeCuda):
                m._buffers[name] = FakeCuda(b.detach())
    return module


def is_fake(x):
    return isinstance(x, FakeCuda)


def unwrap(x):
    return x.elem if is_fake(x) else x


def wrap(x):
    return FakeCuda(x) if isinstance(x, torch.Tensor) and not is_fake(x) else x


def is_backward():
    "Whether a backward pass runs: its formulas make zeros on the CPU, which is where they believe to be."
    return torch._C._current_graph_task_id() != -1


def convert(source, device, kwargs):
    "Another dtype, layout or device."
    to_cuda = device.type == "cuda" if device is not None else is_fake(source)
    if is_fake(source) and not to_cuda:
        SEEN.wait("copy to the CPU")
    if not is_fake(source) and to_cuda and not kwargs.get("non_blocking", False):
        SEEN.wait("copy to the device")
    settings = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory")}
    out = aten._to_copy.default(unwrap(source), **settings)
    if not to_cuda:
        return out
    SEEN.launches["_to_copy"] += 1
    return wrap(out)


def copy_into(target, source, non_blocking=False):
    "`target.copy_(source)` within or between the devices."
    if is_fake(target) != is_fake(source) and not non_blocking:
        SEEN.wait("copy to the device" if is_fake(target) else "copy to the CPU")
    unwrap(target).copy_(unwrap(source))
    SEEN.launches["copy_"] += is_fake(target)
    return target


def is_fill(func, args):
    "Whether an assignment by booleans writes one number, which CUDA does as masked_fill, without a wait."
    if func in (aten.index.Tensor, aten._unsafe_index.Tensor):
        return False
    accumulates = len(args) > 3 and args[3]
    return args[2].numel() == 1 and not is_fake(args[2]) and not accumulates


def refuse_mixes(func, args, plain):
    "Raise DeviceMix for tensors of the CPU that an operation of the device does not take."
    name = func.overloadpacket.__name__
    bad = plain if name in STRICT else [x for x in plain if x.dim()]
    if func in INDEXING:
        if not is_fake(args[0]):
            raise DeviceMix(f"{name} of a tensor of the CPU by one of the device at {place()}")
        bad = [x for x in bad if not any(x is index for index in args[1])]
    if bad and not is_backward():
        raise DeviceMix(f"{name} of cuda and cpu tensors {[tuple(x.shape) for x in bad]} at {place()}")


def count_waits(func, args, kwargs):
    "Note what an operation of the device makes the host wait for."
    if func in WAITING:
        SEEN.wait(WAITING[func])
    if func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
        SEEN.wait("repeat_interleave without output_size")
    for index in args[1] if func in INDEXING else ():
        if index is None:
            continue
        if not is_fake(index):
            SEEN.wait("index from the CPU")
        if index.dtype in (torch.bool, torch.uint8) and not is_fill(func, args):
            SEEN.wait("index of booleans")


def give_back(func, args, kwargs, out):
    "The result on the pretended device; what was changed in place is the object that it was."
    schema = func._schema
    changed = []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed.append(args[i] if i < len(args) else kwargs.get(argument.name))
    if changed and not schema.returns:
        return None
    is_same = [r.alias_info is not None and r.alias_info.is_write for r in schema.returns]
    if not changed or not all(is_same):
        return tree_map(wrap, out)
    for x in changed:
        assert not is_fake(x) or x.shape == x.elem.shape, f"{func} resized a tensor at {place()}"
    return changed[0] if len(changed) == 1 else tuple(changed)


def run(func, args, kwargs):
    "One operation, on either device."
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    first_is_fake = bool(args) and is_fake(args[0])
    device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    if func is aten._to_copy.default:
        return convert(args[0], device, kwargs)
    if func is aten.copy_.default:
        return copy_into(*args, **kwargs)
    is_named = device is not None and device.type == "cuda"
    if not any(map(is_fake, tensors)) and not is_named:
        return func(*args, **kwargs)
    if any(map(is_fake, tensors)):
        refuse_mixes(func, args, [x for x in tensors if not is_fake(x)])
    count_waits(func, args, kwargs)
    settings = {k: v for k, v in kwargs.items() if k != "pin_memory"}
    if is_named or (device is not None and first_is_fake):
        settings["device"] = torch.device("cpu")
    plain_args, plain_kwargs = tree_map(unwrap, (args, settings))
    out = func(*plain_args, **plain_kwargs)
    name = func.overloadpacket.__name__
    if name not in VIEWS:
        SEEN.launches[name] += 1
    return give_back(func, args, kwargs, out)


class EachOperation(TorchDispatchMode):
    "Catches what names the device without a tensor of it: factories."

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


@contextlib.contextmanager
def plainly():
    "Torch as it is."
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield


def wanted(func, args, kwargs):
    "Device, dtype and further settings that a call of to(), cpu() or cuda() asks for."
    settings = {k: v for k, v in kwargs.items() if k not in ("device", "dtype")}
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for a in args[1:]:
        if isinstance(a, torch.Tensor):
            device, dtype = a.device, a.dtype
        elif isinstance(a, torch.dtype):
            dtype = a
        elif isinstance(a, str | torch.device):
            device = a
    if func.__name__ != "to":
        device = func.__name__
    return device, dtype, settings


def to_device(func, args, kwargs):
    "x.to(...), x.cpu() and x.cuda()."
    x = args[0]
    device, dtype, settings = wanted(func, args, kwargs)
    to_cuda = is_fake(x) if device is None else torch.device(device).type == "cuda"
    if to_cuda == is_fake(x):  # no move; the device's name would only be a riddle to torch
        settings |= dict(dtype=dtype) if dtype is not None else {}
        return torch.Tensor.to(x, **settings) if settings else x
    if is_fake(x):
        SEEN.wait("copy to the CPU")
    else:
        SEEN.launches["_to_copy"] += 1
        if not settings.get("non_blocking", False):
            SEEN.wait("copy to the device")
    layout = settings.get("memory_format", torch.preserve_format)
    with plainly():
        moved = unwrap(x).detach().to(dtype=dtype or x.dtype, memory_format=layout, copy=True)
    return FakeCuda(moved) if to_cuda else moved


def made_there(func, args, kwargs):
    "torch.tensor(...) and torch.as_tensor(...) of numbers, on the device."
    SEEN.wait(f"{func.__name__} of numbers")
    settings = {k: v for k, v in kwargs.items() if k not in ("device", "requires_grad")}
    with plainly():
        return FakeCuda(func(*args, **settings))


class EachCall(TorchFunctionMode):
    "Catches what does not reach an operation as what it is."

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if name in ("to", "cpu", "cuda") and isinstance(first, torch.Tensor):
            return to_device(func, args, kwargs)
        if name in ("tensor", "as_tensor") and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            if not isinstance(first, torch.Tensor):
                return made_there(func, args, kwargs)
        if name == "pin_memory" and not is_fake(first):
            return first
        if name == "tolist" and is_fake(first):
            SEEN.wait("tolist")
            return first.elem.tolist()
        if name == "new_tensor" and is_fake(first):
            return made_there(torch.tensor, args[1:], dict(dtype=first.dtype) | kwargs)
        if name == "numpy" and is_fake(first):
            raise TypeError(f"can't convert cuda:0 device type tensor to numpy at {place()}")
        return func(*args, **kwargs)


@contextlib.contextmanager
def fake_cuda():
    "Inside, cuda is the pretended device; gives what is seen of it."
    SEEN.reset()
    with patch.object(torch.cuda, "_lazy_init", lambda: None), EachOperation(), EachCall():
        yield SEEN
