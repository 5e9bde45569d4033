/* Stands for CUDA's header of this name where kernels are compiled as C++: cuda_emulation.h. */
#ifndef MOELAB_TESTS_CUDA_RUNTIME_H
#define MOELAB_TESTS_CUDA_RUNTIME_H

#include "tests/cuda/cuda_emulation.h"
#include "tests/cuda/cuda_runtime_api.h"

#endif
