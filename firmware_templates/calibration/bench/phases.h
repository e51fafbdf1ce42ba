/* The work of each phase of the benchmark: one kernel of the runtime, on data that does not change. */
#ifndef RCT_PHASES_H
#define RCT_PHASES_H

#include <stdbool.h>
#include <stdint.h>

enum {
#define RCT_PHASE(name, kind, percent) RCT_PHASE_##name,
#include "phases.def"
#undef RCT_PHASE
    RCT_PHASES
};

extern const char *const rct_phase_names[RCT_PHASES];

/* Fills the buffers; call once. */
void rct_phases_prepare(void);

/* Repeats the work of a phase. Returns false if the board cannot do it. */
bool rct_phase_run(uint32_t phase, uint32_t iterations);

#endif
