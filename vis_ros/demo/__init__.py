"""The demo: a real clip through the real node, over real topics."""
