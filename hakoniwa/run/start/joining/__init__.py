"""The host's side of networks that are no bridge of ours: macvlan, those of CNI, and another container's."""
