/* FULLY_CONNECTED, of ops that learn in part. */
/* clang-format off: the order matters */
#include "split.h"
#include "fully_connected.c"
#include "fully_connected_grad.c"
