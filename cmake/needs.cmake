# Finds the libraries. Reports all that are missing at once, and what to install.
set(missing "")
macro(moelab_need found name)
    if(NOT ${found})
        list(APPEND missing "${name}")
    endif()
endmacro()
macro(moelab_need_module prefix name) # by pkg-config
    if(PKG_CONFIG_FOUND)
        pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${name})
    endif()
    moelab_need(${prefix}_FOUND ${name})
endmacro()

find_package(PkgConfig QUIET)
moelab_need(PKG_CONFIG_FOUND pkg-config)
find_package(OpenMP QUIET COMPONENTS C)
moelab_need(OpenMP_C_FOUND "OpenMP of ${CMAKE_C_COMPILER} (clang: libomp-dev)")
find_package(Threads REQUIRED)
find_package(HDF5 QUIET COMPONENTS C)
moelab_need(HDF5_FOUND HDF5)
find_package(ZLIB QUIET)
moelab_need(ZLIB_FOUND zlib)
moelab_need_module(YAML yaml-0.1)
moelab_need_module(JANSSON jansson>=2.12)
# Without pkg-config: its .pc file requires protobuf-lite, which Debian 13's package does not
# install.
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h)
find_library(SENTENCEPIECE_LIBRARY sentencepiece)
if(SENTENCEPIECE_INCLUDE_DIR AND SENTENCEPIECE_LIBRARY)
    add_library(sentencepiece UNKNOWN IMPORTED)
    set_target_properties(sentencepiece PROPERTIES IMPORTED_LOCATION ${SENTENCEPIECE_LIBRARY}
        INTERFACE_INCLUDE_DIRECTORIES ${SENTENCEPIECE_INCLUDE_DIR})
    file(STRINGS ${SENTENCEPIECE_INCLUDE_DIR}/sentencepiece_processor.h of_absl
        REGEX absl/status)
    if(of_absl) # from 0.2.2 on
        find_package(absl QUIET)
        moelab_need(absl_FOUND Abseil)
        set_target_properties(sentencepiece PROPERTIES INTERFACE_LINK_LIBRARIES absl::status)
    endif()
else()
    list(APPEND missing SentencePiece)
endif()
if(MOELAB_TESTS)
    moelab_need_module(CHECK check)
endif()

if(missing)
    list(JOIN missing ", " missing)
    # experiments/setup.sh has the only list of packages.
    file(STRINGS ${CMAKE_SOURCE_DIR}/experiments/setup.sh lines REGEX "^build ")
    if(MOELAB_TESTS)
        list(APPEND lines "test check")
    endif()
    list(TRANSFORM lines REPLACE "^[a-z]+ +([^ ]+).*" "\\1")
    list(REMOVE_DUPLICATES lines)
    list(JOIN lines " " packages)
    message(FATAL_ERROR "moelab needs what was not found: ${missing}\n"
        "On Debian and Ubuntu all it needs comes with\n  apt-get install ${packages}\n"
        "and elsewhere with the packages that hold the same (check: or -DMOELAB_TESTS=OFF).")
endif()
