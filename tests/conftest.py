"What all tests share: pictures without a screen, and a word at the end about gates that were red before."

import os

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_terminal_summary(terminalreporter):
    "`make test` names the gates that failed before pytest, so that the last screen shows them too."
    red = os.environ.get("DGCL_NB_RED", "").split()
    if red:
        terminalreporter.section(f"red before pytest, see above: {', '.join(red)}", red=True)
