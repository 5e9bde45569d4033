# MPI, if it is found, for sim/team_mpi.c alone. Off by default with -DMOELAB_STATIC=ON, whose
# programs go to machines without libraries.
if(MOELAB_STATIC AND MOELAB_MPI STREQUAL "AUTO")
    set(MOELAB_MPI OFF)
endif()
if(NOT MOELAB_MPI STREQUAL "OFF")
    find_package(MPI QUIET COMPONENTS C)
endif()
if(MPI_C_FOUND AND NOT MOELAB_MPI STREQUAL "OFF")
    set_source_files_properties(${CMAKE_SOURCE_DIR}/sim/team_mpi.c PROPERTIES
        COMPILE_DEFINITIONS MOELAB_HAVE_MPI)
    target_link_libraries(moe_sim PUBLIC MPI::MPI_C)
    message(STATUS "MPI: ${MPI_C_LIBRARIES}")
elseif(MOELAB_MPI STREQUAL "ON")
    message(FATAL_ERROR "MOELAB_MPI=ON but no MPI for C was found (libopenmpi-dev)")
else()
    message(STATUS "MPI: not built (no MPI, or MOELAB_MPI=OFF); everything else works")
endif()
