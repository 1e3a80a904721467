"""Provisioning: the steps that are taken in a rootfs."""
