/* The update of one output channel, of ops that learn in part, with errors of 16 bits. */
/* clang-format off: the order matters */
#define RCT_ERROR_BITS 16
#include "split.h"
#include "learn_channel.c"
