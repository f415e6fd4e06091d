"""What the commands say when they are asked for help, written from the settings and their comments.

    python tests/help_texts.py FOLDER    write FOLDER/dgcl_nb/help.txt (tests/sync_gate.py does that)

The commands print these texts before they import torch: at once instead of after six seconds (room `help`).
The values of training's settings are those of the preset digits; `--help-all` has those of any preset.
"""

import dataclasses
import importlib
import inspect
import re
import sys
import tempfile
import textwrap
import typing
from pathlib import Path

from dgcl_nb.config import METHODS, Run, parse_run
from dgcl_nb.settings import FOR, preset_layers

WIDTH = 80
LEFT = 26
NARROW = 18
"Width of the first column: of a group's settings, and of the short help."
MOST_USED = (
    "preset method variant steps seed device out resume dry_run init_from data.name data.root "
    "data.num_labelled optim.lr loop.threads"
).split()
SHARED = ("sup", "semi")
"Groups of settings that several methods read."
EXAMPLES = (
    "python -m dgcl_nb.train --method self_training --seed 1",
    "python -m dgcl_nb.train --preset auto",
    "python -m dgcl_nb.train --out runs/mine --resume",
)
# command line -> (module, class of its settings, words before the flags, whether a bool is a bare flag)
COMMANDS = {
    "evaluate": ("evaluate", "Evaluate", "RUN", False),
    "predict": ("predict", "Predict", "RUN [IMAGES]", False),
    "suggest": ("suggest", "Suggest", "RUN [FOLDER]", False),
    "audit": ("audit", "Audit", "RUN", False),
    "bench": ("bench", "Bench", "[methods | ablation]", True),
    "report": ("report", "Report", "RUN [RUN]", True),
    "explore": ("explore", "Explore", "FEATURES.npz | RUN [RUN]", True),
    "data check": ("data.__main__", "Check", "ROOT", False),
    "data make": ("data.__main__", "Make", "ROOT", False),
    "data describe": ("data.__main__", "Describe", "LIST [LIST ...]", False),
    "data masks": ("data.__main__", "Masks", "EXPORT ROOT", False),
    "data download": ("data.__main__", "Download", "ROOT", False),
}


def comments_in(source):
    "Field -> its comment in the source of a dataclass: behind it, or in the lines above it."
    found, above = {}, []
    for line in source.splitlines():
        comment = re.match(r" {4}# (.*)$", line)
        field = re.match(r" {4}(\w+) ?: ?[^#]*(?:# (.*))?$", line)
        if field:
            found[field[1]] = field[2] or " ".join(above)
        above = [*above, comment[1]] if comment else []
    return found


def comments(cls):
    "Field -> its comment, of a dataclass and those it extends."
    found = {}
    for c in reversed(cls.__mro__):
        if not c.__module__.startswith("dgcl_nb") or "__annotations__" not in vars(c):
            continue
        try:
            found |= comments_in(inspect.getsource(c))
        except (OSError, TypeError):
            pass  # the class that run_class makes has no source
    return found


def explained(cls, value=None, prefix=""):
    "Every setting of a dataclass: (dotted name, its comment, its value; MISSING where it must be given)."
    texts = comments(cls)
    for f in dataclasses.fields(cls):
        inner = f.default if value is None else getattr(value, f.name)
        if dataclasses.is_dataclass(inner):
            yield from explained(type(inner), inner, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, texts.get(f.name), inner


def typed(value):
    "A value as it is written on a command line; empty where nothing is."
    if value is None or value is dataclasses.MISSING:
        return ""
    if isinstance(value, (tuple, list)):
        return " ".join(map(typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def row(left, text, column=LEFT):
    "A name and what it means, in two columns."
    hanging = " " * (column + 2)
    # a list of choices that is longer than a line is parted at its commas, not within a word
    text = " ".join(w.replace(",", ", ") if len(w) > WIDTH - column - 2 else w for w in text.split(" "))
    options = dict(initial_indent=hanging, subsequent_indent=hanging, break_on_hyphens=False)
    lines = textwrap.wrap(text, WIDTH, **options)
    if len(left) >= column:
        return "\n".join([f"  {left}", *lines])
    return "\n".join([f"  {left:<{column}}{lines[0][column + 2 :]}", *lines[1:]])


def with_value(text, value):
    "What a setting means and, in brackets, its value."
    return f"{text} [{typed(value)}]" if typed(value) else text


def setting_row(name, text, value, is_switch=False):
    "A setting of a group."
    if is_switch and isinstance(value, bool):
        return row(f"--{name} | --no-{name}", text)
    return row(f"--{name}", with_value(text, value))


def brief_row(name, text, value):
    "A setting of the short help, which leaves out what stands in brackets."
    return row(f"--{name}", with_value(re.sub(r" \(.*?\)", "", text), value), NARROW)


def paragraph(words, indent="  "):
    return textwrap.fill(
        words, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def names_of_sections():
    "The shipped presets, and the variants."
    [(_, sections)] = preset_layers(tempfile.gettempdir())
    names = [name for name in sections if FOR not in name]
    variants = [name.removeprefix("variant ") for name in names if name.startswith("variant ")]
    return [name for name in names if not name.startswith("variant ")], variants


def short_help(groups):
    "What `train --help` says."
    known = {name: (text, value) for name, text, value in explained(Run, parse_run(folder="/nowhere"))}
    presets, variants = names_of_sections()
    methods = [row(name, inspect.getdoc(method).splitlines()[0], NARROW) for name, method in METHODS.items()]
    parts = [
        "usage: python -m dgcl_nb.train [--SETTING VALUE ...]",
        "Trains a method and leaves a run folder; without a setting, DGCL on the embedded data set.",
        "most used settings [and their values]",
        *(brief_row(name, *known[name]) for name in MOST_USED),
        "\nmethods (--method)",
        *methods,
        "\npresets (--preset; sections of the shipped settings.ini and of ./settings.ini)",
        paragraph(", ".join(presets)),
        f"variants (--variant): {', '.join(variants)}",
        "\nexamples",
        *(f"  {line}" for line in EXAMPLES),
        "\nmore",
        row("--help GROUP", f"settings of a group: {', '.join(groups)}; of a method: its name", NARROW),
        row("--help-all", "all settings of the chosen method, with the values of the chosen preset", NARROW),
        row("--version", "what is installed", NARROW),
    ]
    return "\n".join([parts[0], "", paragraph(parts[1], ""), "", *parts[2:]])


def group_help(name, about, value):
    "What `train --help GROUP` says."
    head = f"settings of the group {name} [and their values with the preset digits]"
    rows = [setting_row(*setting) for setting in explained(type(value), value, f"{name}.")]
    return "\n".join([head, paragraph(f"{about}\n", ""), "", *rows])


def train_texts():
    "Command line -> text, of the training command."
    runs = {method: parse_run(["--method", method], "/nowhere") for method in METHODS}
    usual, texts, about = runs[Run.method], {}, comments(Run)
    of_every_run = {f.name: getattr(usual, f.name) for f in dataclasses.fields(Run)}
    groups = {name: value for name, value in of_every_run.items() if dataclasses.is_dataclass(value)}
    for name in SHARED:
        groups[name] = getattr(usual, name)
        about[name] = inspect.getdoc(groups[name])
    for name, value in groups.items():
        texts[f"train --help {name}"] = group_help(name, about[name], value)
    for method, run in runs.items():
        said = inspect.getdoc(METHODS[method]).splitlines()[0]
        shared = ", ".join(g for g in METHODS[method].settings if g in groups)
        said = f"{said} It also reads the groups {shared}." if shared else said
        own = [g for g in METHODS[method].settings if g not in groups]
        parts = [group_help(g, said, getattr(run, g)) for g in own]
        texts[f"train --help {method}"] = "\n\n".join(parts) or f"{method}\n{paragraph(said, '')}"
    return {"train --help": short_help(list(groups))} | texts


def command_help(command, module, kind, words, has_switches):
    "What another command says."
    cls = getattr(importlib.import_module(f"dgcl_nb.{module}"), kind)
    types = {f.name: f.type for f in dataclasses.fields(cls)}
    rows = {True: [], False: []}
    for name, text, value in explained(cls):
        kind = types.get(name)
        if kind is None:  # of a group: what the run that is named says
            value = None
        if typing.get_origin(kind) is typing.Literal:
            text = f"{text} {{{','.join(typing.get_args(kind))}}}"
        is_positional = "Positional" in repr(kind)
        if is_positional:
            rows[True].append(row(name.upper(), with_value(text, value)))
        else:
            rows[False].append(setting_row(name, text, value, has_switches))
    head = f"usage: python -m dgcl_nb.{command} {words}" + " [--SETTING VALUE ...]" * bool(rows[False])
    groups = [name for name, kind in types.items() if dataclasses.is_dataclass(kind)]
    of_run = f"; those of {' and '.join(groups)} are the run's own" if groups else ""
    settings = ["", f"settings [and their values{of_run}]", *rows[False]] if rows[False] else []
    return "\n".join([head, "", paragraph(inspect.getdoc(cls), ""), "", *rows[True], *settings])


def data_help():
    "What `data --help` says: its commands."
    lines = ["usage: python -m dgcl_nb.data COMMAND ...", ""]
    for command, (module, kind, *_) in COMMANDS.items():
        first, _, name = command.partition(" ")
        if first == "data":
            cls = getattr(importlib.import_module(f"dgcl_nb.{module}"), kind)
            lines.append(row(name, inspect.getdoc(cls)))
    return "\n".join([*lines, "", "python -m dgcl_nb.data COMMAND --help says more."])


def all_texts():
    "Command line -> text, of all commands."
    others = {f"{name} --help": command_help(name, *about) for name, about in COMMANDS.items()}
    return train_texts() | others | {"data --help": data_help()}


def write(folder):
    "Write the texts into a package."
    parts = [f"### {line}\n{text}\n" for line, text in all_texts().items()]
    Path(folder, "dgcl_nb", "help.txt").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
