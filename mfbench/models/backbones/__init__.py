"""Backbones: networks from a block of structures to features of its atoms."""
