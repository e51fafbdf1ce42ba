/* Whether the network can take what lies at rct_model_input(): always, but where it takes ids. */
#ifndef RCT_INPUT_H
#define RCT_INPUT_H

#include <stdbool.h>

#include "rct_options.h"

#if RCT_HAS_IDS
/* Of the generated model.c: whether each id is a row of the table. To be asked before a prediction, which may
 * overwrite them. */
bool rct_model_input_is_sound(void);
#else
static inline bool rct_model_input_is_sound(void)
{
    return true;
}
#endif

#endif
