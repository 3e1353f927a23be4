"""`python -m comity` is the command `comity`."""

import os
import sys


def main() -> int:
    """Runs the command; an interrupt while its code is loaded ends it quietly, too."""
    try:
        from comity.cli import main as command
    except KeyboardInterrupt:
        os.write(2, b"comity: interrupted\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
