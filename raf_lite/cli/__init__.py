"""The command `raf-lite`: thin doors to the package, for machines without a notebook."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from raf_lite._install import check_installation, check_python, how_to_install
from raf_lite._names import shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours is one line on stderr and exit status 2, an interrupt one line and
    130."""
    try:
        check_python()  # before what an old one does not have
        from raf_lite.cli.commands import COMMANDS, parse
    except ModuleNotFoundError as error:  # a clone that was brought up to date and not installed again
        print(f"raf-lite: {error.name} is not installed; {how_to_install()}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"raf-lite: {error}", file=sys.stderr)
        return 2
    command = parse(sys.argv[1:] if argv is None else argv)
    try:
        if command.func is not COMMANDS["doctor"]:  # which says more of it
            check_installation()
        return command()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"raf-lite: {shown(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("raf-lite: interrupted", file=sys.stderr)
        return 130
