"""`python -m daydrive` runs the command `daydrive`."""

from daydrive.cli import main

main()
