"""What ids of the host a user namespace maps: the caller's, and the ranges that containers are given."""
