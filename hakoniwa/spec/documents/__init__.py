"""Specs as JSON: written, read, described."""
