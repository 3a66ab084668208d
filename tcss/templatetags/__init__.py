"""Template filters and tags of the whole console."""
