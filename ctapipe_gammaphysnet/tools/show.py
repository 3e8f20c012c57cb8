"""Show for which telescopes a model file is, and how it was trained.

Unlike the other tools it has no configuration, writes no log, and needs no torch.
"""

import argparse
import os
import sys
from pathlib import Path

from ..model.card_text import format_card, incomplete_members
from ..model.errors import ModelFileError
from ..model.file import read_card
from ..terminal import print_anything
from .command_line import versions

__all__ = ["main"]


def main(argv=None):
    """Verify a model file and print its card.

    Parameters
    ----------
    argv : list of str, optional
        Arguments of the command line: the path of the file. Default: ``sys.argv``.

    Returns
    -------
    int
        Exit status: 0, or 1 if the file cannot be used.
    """
    print_anything()
    parser = argparse.ArgumentParser(
        prog="ctapipe-show-gammaphysnet",
        description="Verify a model file of γ-PhysNet and print its model card.",
    )
    parser.add_argument("file", type=Path, help="path of the model file")
    parser.add_argument("-V", "--version", action="version", version=versions())
    file = parser.parse_args(argv).file
    try:
        card = read_card(file)
    except ModelFileError as err:
        print(err, file=sys.stderr)
        return 1
    try:
        print(format_card(card), flush=True)
    except BrokenPipeError:
        # The reader stopped (``| head``): Python must not write the rest when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if found := incomplete_members(card):
        print(f"{file}: {found}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
