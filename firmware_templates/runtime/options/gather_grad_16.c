/* The same with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "gather_grad.c"
