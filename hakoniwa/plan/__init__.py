"""From a spec to steps."""
