/* The end of a program under Arm semihosting: an emulator or a debugger takes the calls. */
#ifndef RCT_SEMIHOSTING_H
#define RCT_SEMIHOSTING_H

#include <stdint.h>

/* Why the program ends, as Arm's semihosting specification numbers it. */
#define RCT_STOPPED_EXIT  0x20026u /* ADP_Stopped_ApplicationExit */
#define RCT_STOPPED_FAULT 0x20023u /* ADP_Stopped_RunTimeErrorUnknown */

/* Ends the program with `code`. */
__attribute__((noreturn)) void rct_semihosting_exit(uint32_t reason, uint32_t code);

#endif /* RCT_SEMIHOSTING_H */
