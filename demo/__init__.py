"""The demo registry: Harbor 2 as clients meet it, over a small store of images built by code."""
