/* FULLY_CONNECTED, backward, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "fully_connected_grad.c"
