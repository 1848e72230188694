"""`python -m stablehand`."""

from stablehand.cli.main import main

main()
