"""The one trainer: every system that can be trained, by ``vis train CONFIG.yaml``, on one CPU or many GPUs.

The clips of a step are a function of the seed, the step and their place in the batch, and so is everything else that is
random: a run that was killed goes on from its last state as if nothing had been; on a CPU bit for bit.

Nothing heavy is imported before it is needed.
"""
