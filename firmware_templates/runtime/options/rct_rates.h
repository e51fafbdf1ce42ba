/* Learning-rate schedule, class weights and clipping (ARITHMETIC.md 7): factors of the error at the loss.
 *
 * The backward pass is linear in that error, so that a factor there scales the update of every layer alike,
 * and no kernel knows of it.
 */
#ifndef RCT_RATES_H
#define RCT_RATES_H

#include "rct.h"

#if RCT_ERROR_BITS == 16
    #define rct_scale_error   rct_scale_error_16
    #define rct_weigh_outputs rct_weigh_outputs_16
#endif

#define RCT_RATE_ONE   65536u /* the exported learning rate */
#define RCT_WEIGHT_ONE 256u

#ifdef __cplusplus
extern "C" {
#endif

/* From training step number `step` on, `rate` / RCT_RATE_ONE times the exported learning rate. */
typedef struct {
    uint32_t step;
    uint32_t rate;
} rct_rate_point_t;

/* In RAM. */
typedef struct {
    uint32_t step; /* number of the next training step */
    uint32_t rate; /* of the step that runs */
    uint32_t next; /* the next point */
} rct_rate_t;

typedef struct {
    const rct_rate_point_t *points; /* (count), by step; NULL without any */
    uint32_t count;
    uint32_t lowest, highest; /* rates that the updates can hold */
    rct_rate_t *now;
} rct_schedule_t;

/* What multiplies the whole error. */
typedef struct {
    int32_t count;           /* outputs */
    uint16_t limit_mantissa; /* largest norm: mantissa * 2**-shift; 0 clips nothing */
    int16_t limit_shift;
    uint8_t norm_shift; /* even: the squares are shifted left by it */
} rct_error_factor_t;

/* Of the generated model.c, where a rate can change. */
extern const rct_schedule_t rct_model_schedule;

/* Sets the learning rate to `rate` / RCT_RATE_ONE times the exported one, until the schedule's next change.
 * RCT_ERR_ARGUMENT, and nothing changes, outside of rct_model_schedule.lowest to .highest. */
rct_status_t rct_model_set_rate(uint32_t rate);

/* Back to the first step. */
void rct_schedule_reset(const rct_schedule_t *schedule);

/* Begins a training step. */
void rct_schedule_advance(const rct_schedule_t *schedule);

/* Multiplies the error by the rate, and by the weight of its class in 1 / RCT_WEIGHT_ONE or what clipping
 * leaves of it; moves both exponents of `backward`. */
void rct_scale_error(const rct_error_factor_t *factor, uint32_t rate, uint16_t weight,
                     rct_error_t *error, /* (count), not all 0 */
                     rct_backward_t *backward);

/* Multiplies the error at each output by its weight in 1 / RCT_WEIGHT_ONE; moves both exponents. */
void rct_weigh_outputs(const uint16_t *weights, /* (count) */
                       int32_t count, rct_error_t *error, rct_backward_t *backward);

#ifdef __cplusplus
}
#endif

#endif
