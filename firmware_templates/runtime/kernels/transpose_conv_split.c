/* TRANSPOSE_CONV, of ops that learn in part. */
/* clang-format off: the order matters */
#include "split.h"
#include "transpose_conv.c"
#include "transpose_conv_grad.c"
