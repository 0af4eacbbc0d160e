"""`accelerate launch train.py ...` from a checkout; the same as `hf-wbc train ...`."""

import sys

from hf_wbc.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
