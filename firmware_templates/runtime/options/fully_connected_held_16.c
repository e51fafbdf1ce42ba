/* FULLY_CONNECTED, backward, where gradients of errors of 16 bits are held. */
#define RCT_ERROR_BITS 16
#include "fully_connected_held.c"
