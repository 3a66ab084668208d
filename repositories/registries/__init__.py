"""Adapters to registries: plain values in, plain values out; none of them knows Django."""
