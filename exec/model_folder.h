/* A model's folder while it is being written. It has a temporary name, beside its final one, until
 * it is complete. If the process is killed, what it leaves under that name does not load as a
 * model, since config.json is written last. */
#ifndef MOELAB_EXEC_MODEL_FOLDER_H
#define MOELAB_EXEC_MODEL_FOLDER_H

#include "base/file.h"
#include "exec/dtype.h"

struct moe_model_folder {
    char *path;      /* final name */
    char *temporary; /* path + ".PID.part" */
    size_t there;    /* length of what existed of its path before (moe_directories_there) */
};

/* Creates it. from: the folder of the model that the new one is made from. Errors: MOE_ERR_USAGE if
 * path exists or lies inside `from`; MOE_ERR_IO, MOE_ERR_MEMORY. Call _end unless this fails. */
enum moe_status moe_model_folder_begin(struct moe_model_folder *folder, const char *path,
                                       const char *from, struct moe_err *err);
/* With status MOE_OK renames it to its final name; otherwise, or if that fails, removes it. Returns
 * the first failure, of status or its own. */
enum moe_status moe_model_folder_end(struct moe_model_folder *folder, enum moe_status status,
                                     struct moe_err *err);

/* Fails if its disk has less than `bytes` free for this user. */
enum moe_status moe_model_folder_room(const struct moe_model_folder *folder, uint64_t bytes,
                                      struct moe_err *err);

/* Creates a file in it, to be written and ended like any struct moe_output. */
enum moe_status moe_model_folder_create(const struct moe_model_folder *folder, const char *name,
                                        struct moe_output *file, struct moe_err *err);

/* Copies other files of `from` unchanged: those whose name ends in .json (except config.json and
 * indexes of weights), .model, .jinja, .md or .txt, or begins with LICENSE, LICENCE or NOTICE. */
enum moe_status moe_model_folder_copy(const struct moe_model_folder *folder, const char *from,
                                      struct moe_err *err);

/* Writes config.json of `from`, whose quantization_config asks for nothing, with one that gives the
 * types of experts and of dense weights (a plain one is left out). All other text is unchanged. */
enum moe_status moe_model_folder_config(const struct moe_model_folder *folder, const char *from,
                                        enum moe_dtype experts, enum moe_dtype dense,
                                        struct moe_err *err);

/* Writes model.safetensors.index.json of `from` with another metadata.total_size. */
enum moe_status moe_model_folder_index(const struct moe_model_folder *folder, const char *from,
                                       uint64_t total_size, struct moe_err *err);

#endif
