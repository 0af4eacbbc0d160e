"""`accelerate launch train.py ...` from a checkout; the same as `hf-wbc train ...`."""

import sys

from hf_wbc.cli.main import run_program

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    run_program()
