#!/usr/bin/env python3
"""Sets up everything on a bare Debian or Ubuntu machine, then runs the demo or the tests.

    python3 scripts/bootstrap.py demo     # install, build, classify examples/images/coffee.png
    python3 scripts/bootstrap.py test     # install, build, run the tests (all of CI's with CI=true)
    python3 scripts/bootstrap.py build    # install and build only

Needs Python 3.10 or later and its standard library. System packages come from apt-get where root
or sudo is there. Without either, headers and loaders are unpacked into ``.deps/`` or taken from
PyPI, and PyPI's ``pocl-binary-distribution`` serves as OpenCL driver. Everything else goes into
``.venv/``.
"""
# This file alone is kept readable for old Pythons, so that they can say what is wrong.

import sys

if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "dlk: Python 3.10 or later is needed, this is {}; run this program with a newer one, "
        "for example: python3.11 {}".format(sys.version.split()[0], " ".join(sys.argv))
    )

from bootstrap_steps import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
