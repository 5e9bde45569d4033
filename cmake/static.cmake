# -DMOELAB_STATIC=ON: programs for a machine that has none of the libraries (tests/gpu/pack). Links
# statically what has a static library. SentencePiece has none and needs libstdc++: the program
# looks for both in lib/ beside itself, where tests/gpu/pack puts them.
function(moelab_static_library out name)
    find_library(MOELAB_STATIC_${name} NAMES lib${name}.a PATHS ${ARGN})
    if(NOT MOELAB_STATIC_${name}) # may be one of the compiler's own
        execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=lib${name}.a
            OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
        if(NOT EXISTS ${path})
            message(FATAL_ERROR "MOELAB_STATIC=ON, but lib${name}.a was not found")
        endif()
        set_property(CACHE MOELAB_STATIC_${name} PROPERTY VALUE ${path})
    endif()
    set(${out} ${${out}} ${MOELAB_STATIC_${name}} PARENT_SCOPE)
endfunction()

# moelab_make_static TARGET LIBRARY...: makes the imported target link these libraries, statically
# except for glibc's own.
function(moelab_make_static target)
    set(libraries "")
    foreach(name ${ARGN})
        if(name MATCHES "^(m|dl|pthread|rt)$")
            list(APPEND libraries ${name})
        else()
            moelab_static_library(libraries ${name} ${HDF5_LIBRARY_DIRS}
                ${HDF5_C_LIBRARY_DIR})
        endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_LINK_LIBRARIES "${libraries}"
        INTERFACE_LINK_OPTIONS "")
endfunction()

get_filename_component(HDF5_C_LIBRARY_DIR "${HDF5_C_LIBRARY_hdf5}" DIRECTORY)
moelab_make_static(PkgConfig::YAML yaml)
moelab_make_static(PkgConfig::JANSSON jansson)
moelab_static_library(zlib z) # ZLIB::ZLIB is itself an imported library
set_target_properties(ZLIB::ZLIB PROPERTIES IMPORTED_LOCATION "${zlib}"
    IMPORTED_LOCATION_RELEASE "${zlib}")
moelab_make_static(HDF5::HDF5 hdf5 sz aec z m dl pthread)
moelab_make_static(OpenMP::OpenMP_C gomp dl pthread)
if(TARGET PkgConfig::CHECK)
    moelab_make_static(PkgConfig::CHECK check_pic subunit rt m pthread)
endif()
add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-ffunction-sections>
    $<$<COMPILE_LANGUAGE:C,CXX>:-fdata-sections>)
add_link_options(-Wl,--gc-sections)
set(CMAKE_INSTALL_RPATH "\$ORIGIN/lib")
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
