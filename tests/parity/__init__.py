"""The parity suite: every operator on every device against NumPy in float64.

Installed with the package as ``dlk._parity``, so that ``dlk parity`` runs anywhere.
"""
