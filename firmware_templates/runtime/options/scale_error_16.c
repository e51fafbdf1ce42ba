/* Factors of the error at the loss, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "scale_error.c"
