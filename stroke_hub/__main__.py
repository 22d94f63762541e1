"""Run the command line as ``python -m stroke_hub``."""

from stroke_hub.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
