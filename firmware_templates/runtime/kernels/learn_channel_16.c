/* The update of one output channel, with errors of 16 bits. */
#define RCT_ERROR_BITS 16
#include "learn_channel.c"
