"""Hooks: when and how they are called."""
