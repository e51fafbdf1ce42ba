/* CONV_2D, backward, of ops that learn in part, with errors of 16 bits. */
/* clang-format off: the order matters */
#define RCT_ERROR_BITS 16
#include "split.h"
#include "conv_2d_grad.c"
