"""Registries, repositories and tags: where an image is called what."""
