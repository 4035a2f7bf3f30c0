"""The command line and terminal of proxprop."""

import sys

__version__ = "0.1.0"

if (
    sys.argv[:1] == ["-m"]  # as it is while 'python -m' looks for a module
    and any(argument.endswith("proxprop_cli") for argument in sys.orig_argv)
    and not sys.flags.safe_path
    and __path__ != [f"{sys.path[0]}/proxprop_cli"]
):
    # the working folder: an 'engine.py' or a 'random.py' there would be taken for ours or Python's
    del sys.path[0]
