"""Compile an exported program to machine code: compile_ahead.py exported.pt2 package.pt2"""

import sys

import torch

if __name__ == "__main__":
    torch.set_num_threads(1)
    program = torch.export.load(sys.argv[1])
    quicker = {"aot_inductor.precompile_headers": False}  # worth it only for many packages
    torch._inductor.aoti_compile_and_package(
        program, package_path=sys.argv[2], inductor_configs=quicker
    )
