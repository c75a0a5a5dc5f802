"""`python -m beepgpt` is the command line."""

from beepgpt.commands.app import main

main()
