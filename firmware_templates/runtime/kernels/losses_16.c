/* The losses, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "difference_error.c"
#include "sigmoid_cross_entropy.c"
#include "softmax_cross_entropy.c"
