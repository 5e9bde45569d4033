/* The admission rules by name; the public table is moe_admissions (admission.h). */
#ifndef MOELAB_POLICIES_ADMISSION_RULES_H
#define MOELAB_POLICIES_ADMISSION_RULES_H

#include "policies/admission.h"

extern const struct moe_admission_ops moe_admission_always;
extern const struct moe_admission_ops moe_admission_never;
extern const struct moe_admission_ops moe_admission_quota;
extern const struct moe_admission_ops moe_admission_queue_limit;
extern const struct moe_admission_ops moe_admission_probabilistic;
extern const struct moe_admission_ops moe_admission_second_miss;
extern const struct moe_admission_ops moe_admission_pay_back;
extern const struct moe_admission_ops moe_admission_q_star;

#endif
