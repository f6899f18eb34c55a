"""Entry point: `python -m gateway` and the command `runward`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
