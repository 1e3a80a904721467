"""The links of containers: bridges, pairs of interfaces, addresses that are leased, and names of namespaces."""
