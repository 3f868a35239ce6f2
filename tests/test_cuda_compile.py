"""Every CUDA source compiles for the devices, and its kernels fit into their registers; no device is needed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cuda_compilers import ARCHITECTURES, FILES, INSTALL, Compiler, compilers, usual, variants

from sepnet.backends.cuda.source import Program, assemble, kernel_names

# Bytes a thread of the usual variants may lay aside in memory. The assembler aims at round numbers of registers, and
# lays a few addresses aside for that; a kernel that does not fit takes hundreds.
SPILLED = 64
# Most of the work goes through these, and they do without.
TIGHT = {"cp_value", "cp_gradient", "fill_dense", "normal_rows"}


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    found = compilers()
    if not found:
        pytest.skip(INSTALL)
    return found[0]


def check(compiler: Compiler, program: Program, architecture: str) -> None:
    log = compiler.log(program, architecture)
    assert "warning" not in log.lower(), log
    assert sorted(k.name for k in compiler.kernels(program, architecture)) == sorted(kernel_names(program.text))


@pytest.mark.parametrize("file", FILES)
def test_the_usual_variants_compile_and_fit(file: str, compiler: Compiler) -> None:
    for program in usual(file):
        for architecture in ARCHITECTURES:
            check(compiler, program, architecture)
            for kernel in compiler.kernels(program, architecture):
                limit = 0 if kernel.name in TIGHT else SPILLED
                assert kernel.spilled <= limit, (program, architecture, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_all_variants_compile(file: str) -> None:
    """All of them by the compiler that works on a user's machine, the usual ones by the other."""
    if not compilers():
        pytest.skip(INSTALL)
    for k, compiler in enumerate(compilers()):
        for program in variants(file) if k == 0 else usual(file):
            for architecture in ARCHITECTURES:
                check(compiler, program, architecture)


def test_there_is_something_to_compile() -> None:
    assert {"cp.cu", "fill.cu", "normal.cu"} <= set(FILES)
    for file in FILES:
        assert kernel_names(assemble(file)), file
        for program in usual(file):
            assert program in set(variants(file))


@dataclass(frozen=True)
class Written:
    """In the place of a `Program`, with a text of its own."""

    text: str
    file: str = "written.cu"
    options: tuple[str, ...] = ()


def test_errors_warnings_and_spills_are_told() -> None:
    head = 'extern "C" __global__ void __launch_bounds__(1024) written(float *x) { '
    if not compilers():
        pytest.skip(INSTALL)
    for compiler in compilers():
        with pytest.raises(AssertionError, match=r"refuses[\s\S]*undeclared"):
            compiler.log(Written(head + "*x = undeclared; }"), "sm_90")
        with pytest.raises(AssertionError, match="never referenced"):
            check(compiler, Written(head + "int unused; }"), "sm_90")
        loops = "\n#pragma unroll\nfor (int i = 0; i < 200; ++i)"
        many = head + f"float y[200];{loops} y[i] = x[i * 1024]; __syncthreads();{loops} x[i] = y[199 - i]; }}"
        (kernel,) = compiler.kernels(Written(many), "sm_90")
        assert kernel.name == "written"
        assert kernel.registers <= 64
        assert kernel.spilled > SPILLED
