"""GMP-VIS (CVPR 2023) and VisTR (CVPR 2021): clip transformers, and instances of frames matched as graphs."""
