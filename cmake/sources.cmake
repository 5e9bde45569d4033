# Writes OUT, a C file with a hash of the sources that compute results: base, traces, policies and
# sim below ROOT. The same files give the same hash on every machine and in every build folder.
#     cmake -DROOT=... -DOUT=... -P cmake/sources.cmake
set(all "")
foreach(folder base traces policies sim)
    file(GLOB files RELATIVE ${ROOT} ${ROOT}/${folder}/*.c ${ROOT}/${folder}/*.h)
    list(SORT files)
    foreach(name ${files})
        file(SHA256 ${ROOT}/${name} hash)
        string(APPEND all "${name} ${hash}\n")
    endforeach()
endforeach()
string(SHA256 hash "${all}")
string(SUBSTRING ${hash} 0 16 hash)
file(WRITE ${OUT} "#include \"sim/sources.h\"\n
const char *moe_sources(void)\n{\n    return \"${hash}\";\n}\n")
