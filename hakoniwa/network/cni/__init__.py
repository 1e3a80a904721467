"""Networks of CNI: what they are, the plugins that make them, and what a container has of one."""
