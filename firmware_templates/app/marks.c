#include "marks.h"

/* In a file of their own, so that no compiler sees that they are empty where they are called. */

void rct_mark_predict_begin(void)
{
}

void rct_mark_predict_end(void)
{
}

void rct_mark_learn_begin(void)
{
}

void rct_mark_learn_end(void)
{
}
