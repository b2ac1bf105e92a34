"""Mask2Former-VIS (2021) and MinVIS (NeurIPS 2022): one network, offline over clips or online frame by frame."""
