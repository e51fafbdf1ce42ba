/* DEPTHWISE_CONV_2D, of ops that learn in part. */
/* clang-format off: the order matters */
#include "split.h"
#include "depthwise_conv_2d.c"
#include "depthwise_conv_2d_grad.c"
