"""`fieldpost` and `python -m fieldpost`."""

from fieldpost.cli.app import main

if __name__ == "__main__":
    main()
