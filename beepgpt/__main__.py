"""`beepgpt`, and `python -m beepgpt`, are the command line."""

from beepgpt.commands.starting import begin


def main() -> None:
    """Run the command line; signals are heard while it is still being imported."""
    begin()
    from beepgpt.commands.app import main as run

    run()


if __name__ == "__main__":
    main()
