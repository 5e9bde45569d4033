# PCRE2 and utf8proc, if they are found, for the two files that use them: without these libraries
# byte-level tokenizers (Qwen's, OLMoE's) are refused.
function(moelab_text_library prefix name file)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${name})
    if(${prefix}_FOUND)
        set_source_files_properties(${CMAKE_SOURCE_DIR}/exec/${file} PROPERTIES
            COMPILE_DEFINITIONS MOELAB_HAVE_${prefix})
        if(MOELAB_STATIC)
            string(REGEX REPLACE "^lib" "" library ${name})
            moelab_make_static(PkgConfig::${prefix} ${library})
        endif()
        target_link_libraries(moe_exec PUBLIC PkgConfig::${prefix})
        message(STATUS "${name}: ${${prefix}_VERSION}")
    else()
        message(STATUS "${name}: not found; byte-level tokenizers are refused, "
            "everything else works")
    endif()
endfunction()
moelab_text_library(PCRE2 libpcre2-8 word_pattern.c)
moelab_text_library(UTF8PROC libutf8proc compose.c)
