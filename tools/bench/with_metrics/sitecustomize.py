# ruff: noqa: INP001  # not imported by name: Python finds it on its path
"""Lets a process import early what `without_metrics` imports early, and changes nothing.

For `tools.bench.overheads` alone: so the two kinds of process differ in what metrics do, and not in
what was imported when.
"""

import processor.metrics  # noqa: F401
import runtime.service.measures  # noqa: F401
