"""``python -m idemfuzz.cli``: the same as the ``idemfuzz`` command."""

from idemfuzz.cli import main

if __name__ == "__main__":
    main()
