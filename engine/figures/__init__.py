"""Figures for papers: frozen data in, a matplotlib figure out; no display, no torch."""
