"""`python -m microevo`."""

from microevo.cli import main

if __name__ == "__main__":
    main()
