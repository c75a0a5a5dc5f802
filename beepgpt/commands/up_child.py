"""A command that `beepgpt up` runs: it ends, as if it had been asked to, when that is gone."""

from __future__ import annotations

from beepgpt.commands.starting import begin


def main() -> None:
    """Run the command line."""
    begin()
    from beepgpt.commands.app import main as run
    from beepgpt.runtime.running import stop_with_parent

    stop_with_parent()
    run()


if __name__ == "__main__":
    main()
