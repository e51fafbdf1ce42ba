/* No bound that the code tells: which function is called is only known when it runs. */
#include "rct_port.h"

static int one(void)
{
    return 1;
}

static int (*volatile chosen)(void) = one;

int main(void)
{
    return chosen() + 1;
}
