"""Commands about containers that run."""
