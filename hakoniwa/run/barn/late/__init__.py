"""Containers that a barn takes while it runs: asked for, admitted, started, stopped, removed."""
