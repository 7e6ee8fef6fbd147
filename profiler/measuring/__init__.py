"""Measuring on a device: what is visited how often, the visits themselves, and whether their figures can be trusted."""
