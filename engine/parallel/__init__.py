"""One training by several processes, each with a part of every mini-batch.

Started by torchrun. Every process holds the whole network and makes the same update of it. What is
a sum over samples is summed over the processes and divided by their common count, so that a step
is the one of a single process with the whole batch, up to rounding. Rank 0 alone writes.
"""
