"""Sweeps over many machines, by Ray Core.

Ray places processes and carries bytes; what is known of a run stays with the machine that asked.
Nothing outside this package imports Ray.
"""
