# Builds exec/cuda/*.cu into moe_cuda and links it into moe_exec. Included when nvcc is there.
# The runtime is linked statically: the program must start where there is no CUDA at all.
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 11.8)
    message(FATAL_ERROR "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is too old: 11.8 or later is needed "
        "(-DMOELAB_CUDA=OFF builds without)")
endif()

# Ampere, Ada, Hopper and Blackwell, as far as this toolkit knows them; the newest also as PTX, so
# that later devices can run it.
set(MOELAB_CUDA_SM "80;86;89;90;120" CACHE STRING "Compute capabilities to build CUDA kernels for")
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch
    OUTPUT_VARIABLE known_archs RESULT_VARIABLE failed)
set(MOELAB_CUDA_ARCHS "")
set(newest "")
foreach(arch ${MOELAB_CUDA_SM})
    if(NOT failed AND known_archs MATCHES "compute_${arch}(\n|$)")
        list(APPEND MOELAB_CUDA_ARCHS ${arch}-real)
        set(newest ${arch})
    endif()
endforeach()
if(NOT newest)
    message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} knows none of sm ${MOELAB_CUDA_SM}")
endif()
# PTX of 9.0 is for devices between 9.0 and 12.0, which run the machine code of neither.
if("90-real" IN_LIST MOELAB_CUDA_ARCHS)
    list(APPEND MOELAB_CUDA_ARCHS 90-virtual)
endif()
list(APPEND MOELAB_CUDA_ARCHS ${newest}-virtual)
list(REMOVE_DUPLICATES MOELAB_CUDA_ARCHS)
set(CMAKE_CUDA_ARCHITECTURES "${MOELAB_CUDA_ARCHS}") # for the targets still to come

file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/exec/cuda/*.cu)
add_library(moe_cuda STATIC ${cuda_sources})
set_target_properties(moe_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
target_include_directories(moe_cuda PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_options(moe_cuda PRIVATE
    # The kernels round as the CPU does: no fused multiply-add unless the code asks for it.
    $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xcompiler=-Wall,-Wextra>)
# Only toolkits whose warnings are known: those of older ones must not stop a build.
if(MOELAB_WERROR AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(moe_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()

target_link_libraries(moe_cuda PUBLIC moe_exec ${CMAKE_DL_LIBS}) # each needs the other
target_link_libraries(moe_exec PUBLIC moe_cuda)
set_target_properties(moe_exec PROPERTIES CUDA_ARCHITECTURES "${MOELAB_CUDA_ARCHS}")
target_compile_definitions(moe_exec PUBLIC MOELAB_HAVE_CUDA)
message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${MOELAB_CUDA_ARCHS}")
