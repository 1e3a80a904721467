"""Netlink without a library: messages, and what routes, links and packet filters are told by them."""
