"""Kernels that dlk prints, run by hosts that dlk did not write.

A failure here and in the parity suite is a kernel's; one in the parity suite alone is a backend's.
"""
