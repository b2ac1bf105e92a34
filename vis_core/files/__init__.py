"""Reading what others wrote: JSON and its masks, checked before anything is decoded, every fault told by its place."""
