"""`python -m profiler`."""

from profiler.cli.main import main

if __name__ == "__main__":
    main()
