"""What exists, by content: images, manifests and layers, and the Repository Images page."""
