"""What the drivers in Python share: runs the step that the command line names."""

import sys


def run(driver):
    """`SCRIPT STEP ARGUMENT…` calls the method of that name; an error is one line."""
    step, *arguments = sys.argv[1:]
    try:
        getattr(driver, step)(*arguments)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
