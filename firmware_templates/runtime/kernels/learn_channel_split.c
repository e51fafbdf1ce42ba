/* The update of one output channel, of ops that learn in part. */
/* clang-format off: the order matters */
#include "split.h"
#include "learn_channel.c"
