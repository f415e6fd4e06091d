"""Files of a moment, written in the background: the copy, the order of writes, errors."""

import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn

from dgcl_nb.core import InputError
from dgcl_nb.writer import BackgroundWriter, copy_to_host, write_later

CPU = torch.device("cpu")


def test_copy_to_host__is_apart_from_the_original():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    state = dict(net=net.state_dict(), optimizer=optimizer.state_dict(), rates=[0.1, None], name="x")
    copied, before = copy_to_host(state), {k: v.clone() for k, v in net.state_dict().items()}
    optimizer.step()
    assert not torch.equal(net[0].weight, before["0.weight"])
    assert all(torch.equal(copied["net"][k], v) for k, v in before.items())
    assert int(copied["optimizer"]["state"][0]["step"]) == 1 and copied["rates"] == [0.1, None]
    assert copied["net"]["0.weight"].stride() == net[0].weight.stride()


def test_copy_to_host__keeps_types_and_what_was_shared():
    net = nn.BatchNorm2d(3)
    state = net.state_dict()
    copied = copy_to_host(dict(a=state, b=net.state_dict(), c=(state["weight"], {"x"})))
    assert type(copied["a"]) is OrderedDict and copied["a"]._metadata == state._metadata
    assert copied["a"]["weight"] is copied["b"]["weight"] is copied["c"][0]
    assert copied["c"][1] == {"x"} and copied["a"]["num_batches_tracked"].dtype == torch.int64


def test_copy_to_host__views_of_one_memory_stay_apart():
    x = torch.arange(6.0)
    copied = copy_to_host([x[:3], x[3:], x.view(2, 3), x[:0]])
    assert [c.tolist() for c in copied] == [[0, 1, 2], [3, 4, 5], [[0, 1, 2], [3, 4, 5]], []]


def test_writer__the_caller_goes_on_while_a_slow_disk_writes():
    gate, writer, written = threading.Event(), BackgroundWriter(), []
    weights = torch.zeros(3)

    def slow(state):
        assert gate.wait(30)
        written.append(state["weights"].tolist())

    write_later(writer, dict(weights=weights), CPU, slow)
    weights += 1
    writer.check()
    assert written == [], "it was not waited for"
    gate.set()
    writer.wait()
    assert written == [[0, 0, 0]], "what is written is the moment of the call"


def test_writer__the_next_write_waits_for_the_one_before():
    gate, writer, order = threading.Event(), BackgroundWriter(), []

    def slow(state):
        assert gate.wait(30)
        order.append("first")

    write_later(writer, {}, CPU, slow)
    threading.Timer(0.2, gate.set).start()
    write_later(writer, {}, CPU, lambda state: order.append("second"))
    order.append("called")
    writer.wait()
    assert order[0] == "first" and set(order[1:]) == {"second", "called"}


def broken(state):
    raise InputError("no space")


def test_writer__an_error_is_raised_once_by_whoever_calls_next():
    writer = BackgroundWriter()
    for call in (writer.wait, lambda: write_later(writer, {}, CPU, print)):
        write_later(writer, {}, CPU, broken)
        with pytest.raises(InputError, match="no space"):
            call()
        writer.wait()
    write_later(writer, {}, CPU, broken)
    writer.thread.join()
    with pytest.raises(InputError, match="no space"):
        writer.check()


def test_writer__end_says_what_went_wrong_and_raises_nothing(caplog):
    writer = BackgroundWriter()
    write_later(writer, {}, CPU, broken)
    writer.end()
    assert "no space" in caplog.text
    writer.wait()
