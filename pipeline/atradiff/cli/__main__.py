"""`python -m atradiff.cli` is the program `atradiff`, for those who know their Python but not its scripts' folder."""

from atradiff.cli import main

main()
