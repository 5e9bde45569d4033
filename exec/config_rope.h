/* Rotary positions of config.json, in the spelling of either version of transformers. */
#ifndef MOELAB_EXEC_CONFIG_ROPE_H
#define MOELAB_EXEC_CONFIG_ROPE_H

#include "exec/config.h"

#include <jansson.h>

/* Sets rope_theta and what LongRoPE needs; arch and head_dim have to be set before. Errors as
 * moe_llm_config_parse, without the name of the file; config may be partly set then. */
enum moe_status moe_config_rope(const json_t *root, struct moe_llm_config *config,
                                struct moe_err *err);

#endif
