"""`python -m daydrive` is the command `daydrive`."""

from daydrive.cli import main

main()
