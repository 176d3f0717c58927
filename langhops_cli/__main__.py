"""`python -m langhops_cli`, the same as the command `langhops`: launchers start a module, not a command."""

from langhops_cli.cli.app import main

main()
