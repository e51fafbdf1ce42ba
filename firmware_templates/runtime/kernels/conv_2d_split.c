/* CONV_2D, of ops that learn in part. */
/* clang-format off: the order matters */
#include "split.h"
#include "conv_2d.c"
#include "conv_2d_grad.c"
