"""What happens to a container while it is there: start, exec, hooks, reload, end."""
