#!/bin/sh
# nvcc 13.0: cudaGraphSetConditional(), by which a kernel ends or repeats a WHILE node of a CUDA graph, needs neither
# relocatable device code (-rdc=true) nor the device runtime (libcudadevrt), although it is declared among that runtime's
# functions, where nvcc rejects most others without -rdc. It is left undefined in the machine code in both ways of compiling, as
# printf's vprintf is: the driver supplies it when it loads the code.
#
# Why it matters: CUDA's own sample (graphConditionalNodes) is compiled as separable code. A library of kernels that is compiled
# as a whole would have to change how it is built and linked, for nothing. A kernel launch from a kernel, in contrast, is
# refused without -rdc=true.
#
# Fails when one of these compiles otherwise. Needs Linux on x64, python3 with venv, its package index (150 MB), a C++ compiler and
# readelf; no GPU.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
  nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
home=$(echo python/lib/python3*/site-packages/nvidia/cu13)
chmod +x "$home"/bin/* "$home"/nvvm/bin/*
nvcc="$home/bin/nvcc -arch=sm_90 -I$home/include"

cat >condition.cu <<'SOURCE'
#include <cuda_runtime.h>
__global__ void end_loop(cudaGraphConditionalHandle handle) { cudaGraphSetConditional(handle, 0); }
SOURCE
cat >print.cu <<'SOURCE'
#include <cstdio>
__global__ void print() { printf("printed"); }
SOURCE
cat >launch.cu <<'SOURCE'
__global__ void child() {}
__global__ void parent() { child<<<1, 1>>>(); }
SOURCE
undefined() { readelf -sW "$1" | awk '$7 == "UND" && $4 == "FUNC" { print $8 }' | sed 's/^\[.*\] *//'; }

$nvcc -cubin condition.cu -o whole.cubin
$nvcc -rdc=true -dc condition.cu -o separable.o
$nvcc -dlink -cubin separable.o -o linked.cubin "$home/lib/libcudadevrt.a"
$nvcc -cubin print.cu -o print.cubin
if $nvcc -cubin launch.cu -o launch.cubin 2>launch.txt; then
  echo "a kernel launch from a kernel compiles without -rdc=true" && exit 1
fi
{
  echo "compiled as a whole: $(undefined whole.cubin)"
  echo "separable, linked with libcudadevrt: $(undefined linked.cubin)"
  echo "printf: $(undefined print.cubin)"
  echo "a launch from a kernel: $(grep -c 'separate compilation mode' launch.txt) error"
} | tee found.txt
cat >expected.txt <<'EXPECTED'
compiled as a whole: cudaGraphSetConditional
separable, linked with libcudadevrt: cudaGraphSetConditional
printf: vprintf
a launch from a kernel: 1 error
EXPECTED
diff expected.txt found.txt
echo "as described: the driver supplies cudaGraphSetConditional, with and without -rdc=true"
