"""The command line and terminal of proxprop."""

__version__ = "0.1.0"
