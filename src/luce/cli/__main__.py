"""`python -m luce.cli`, where the `luce` script is not on the path."""

from luce.cli import main

main(prog_name="luce")
