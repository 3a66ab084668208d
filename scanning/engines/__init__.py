"""Adapters of the scan engines: values come in as arguments, frozen facts come out."""
