/* The learning rate as it changes, by its schedule or by the application. */
#include "rct_rates.h"

void rct_schedule_reset(const rct_schedule_t *schedule)
{
    const rct_rate_t start = {0, RCT_RATE_ONE, 0};
    *schedule->now = start;
}

void rct_schedule_advance(const rct_schedule_t *schedule)
{
    rct_rate_t *now = schedule->now;
    if (now->next < schedule->count && schedule->points[now->next].step == now->step) {
        now->rate = schedule->points[now->next].rate;
        now->next++;
    }
    now->step++;
}

rct_status_t rct_model_set_rate(uint32_t rate)
{
    if (rate < rct_model_schedule.lowest || rate > rct_model_schedule.highest) {
        return RCT_ERR_ARGUMENT;
    }
    rct_model_schedule.now->rate = rate;
    return RCT_OK;
}
