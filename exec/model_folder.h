/* The folder of a model while it is written: under a temporary name beside its own until all is in
 * it. What a kill leaves under that name does not load as a model: config.json comes last. */
#ifndef MOELAB_EXEC_MODEL_FOLDER_H
#define MOELAB_EXEC_MODEL_FOLDER_H

#include "base/file.h"
#include "exec/dtype.h"

struct moe_model_folder {
    char *path;      /* the name that it will have */
    char *temporary; /* path + ".PID.part" */
    size_t there;    /* how much of temporary was folders before (moe_directories_there) */
};

/* Makes it. from: the folder of the model that the new one is made of. Errors: MOE_ERR_USAGE where
 * path exists or lies inside from; MOE_ERR_IO, MOE_ERR_MEMORY. Only then there is no end to call.
 */
enum moe_status moe_model_folder_begin(struct moe_model_folder *folder, const char *path,
                                       const char *from, struct moe_err *err);
/* status MOE_OK: gives it its name; else, and where that fails, removes it. Returns the first
 * failure of both. */
enum moe_status moe_model_folder_end(struct moe_model_folder *folder, enum moe_status status,
                                     struct moe_err *err);

/* Refuses where its disk has less room than that for this user. */
enum moe_status moe_model_folder_room(const struct moe_model_folder *folder, uint64_t bytes,
                                      struct moe_err *err);

/* A file in it, to be written and ended as any output. */
enum moe_status moe_model_folder_create(const struct moe_model_folder *folder, const char *name,
                                        struct moe_output *file, struct moe_err *err);

/* from's other files as they are: those whose name ends in .json (but config.json and indexes of
 * weights), .model, .jinja, .md or .txt, or begins with LICENSE, LICENCE or NOTICE. */
enum moe_status moe_model_folder_copy(const struct moe_model_folder *folder, const char *from,
                                      struct moe_err *err);

/* from's config.json, which has no quantization_config that asks for anything, with one that says
 * of which type the experts are. All other text stays. */
enum moe_status moe_model_folder_config(const struct moe_model_folder *folder, const char *from,
                                        enum moe_dtype experts, struct moe_err *err);

/* from's model.safetensors.index.json with another metadata.total_size. */
enum moe_status moe_model_folder_index(const struct moe_model_folder *folder, const char *from,
                                       uint64_t total_size, struct moe_err *err);

#endif
