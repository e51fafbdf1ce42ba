/* What moves and adds errors, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "average_pool_2d_grad.c"
#include "mask.c"
#include "mask_bits.c"
#include "max_pool_2d_grad.c"
#include "mean_grad.c"
#include "merge_errors.c"
#include "negate_errors.c"
#include "pad_grad.c"
#include "pair_grad.c"
#include "table_grad.c"
