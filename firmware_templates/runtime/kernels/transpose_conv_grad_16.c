/* TRANSPOSE_CONV, backward, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "transpose_conv_grad.c"
