/* CONV_2D, backward, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "conv_2d_grad.c"
