"""The interpreter takes more than the compiler does, so the kernels are also compiled, GPU or not."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

ROWS = ["lse", "rate", "hit", "smooth", "slope", "at_target", "peaks", "sums", "spreads", "d_bias", "d_phi"]
OPTIONS = ["phi", "state", "inverse", "bias", "prior", "class_weight"]
COUNTS = ["n", "n_classes", "n_splits", "first", "last", "stride"]
SWITCHES = {
    "all options": {"SOFTCAP": 30.0, "NEGATIVES": "curricular", "CONSTANTS": (64.0,)},
    "binary": {"NEGATIVES": "sphereface2", "CONSTANTS": (40.0, 0.4, 3.0, 0.0), "BINARY": (0.7, 0.3)},
}


@pytest.mark.parametrize("switches", SWITCHES)
def test_kernels_compile_for_an_h100(switches):
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, __file__, switches], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["reduce_scores", "score_gradients"]


def compile_kernels(name: str) -> None:
    """Print the name of each kernel that compiles to tensor-core code."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from luce.nn import _triton_kernels as kernels

    config = kernels._configs()[-1]  # the smallest: quick to compile
    constants = {
        "D": 2304, "BLOCK_N": 128, "PRODUCT": tl.bfloat16, "PRECISION": "ieee", "SOFTCAP": None,
        "BINARY": None, "GROUP": kernels.GROUP, **config.kwargs, **SWITCHES[name],
    }  # fmt: skip
    pointers = {"x": "*bf16", "weight": "*bf16", "gradient": "*bf16", "target": "*i64"}
    pointers |= dict.fromkeys(ROWS, "*fp32") | dict.fromkeys(OPTIONS, "*fp32")
    pointers |= dict.fromkeys(COUNTS, "i32")
    for kernel in (kernels.reduce_scores.fn, kernels.score_gradients.fn):
        names = kernel.arg_names
        source = ASTSource(
            kernel,
            signature={arg: pointers.get(arg, "constexpr") for arg in names},
            constexprs={(i,): constants.get(arg) for i, arg in enumerate(names) if arg not in pointers},
        )
        options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert "wgmma" in compiled.asm["ptx"]
        print(kernel.__name__)


if __name__ == "__main__":
    compile_kernels(sys.argv[1])
