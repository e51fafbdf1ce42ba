/* Counting what is right, stopping early, going back to the best weights. */
#include <stddef.h>

#include "clear.h"
#include "rct_aids.h"
#include "rct_input.h"

static uint32_t confusion_bytes(void)
{
    return rct_model_info.classes * rct_model_info.classes * (uint32_t)sizeof(uint16_t);
}

void rct_model_begin_evaluation(void)
{
    const rct_aids_t *aids = &rct_model_aids;
    if (aids->progress) {
        aids->progress->count = 0;
        aids->progress->score = 0;
    }
    if (aids->confusion) {
        rct_clear(aids->confusion, confusion_bytes());
    }
}

rct_status_t rct_model_evaluate(uint16_t label, uint8_t *right)
{
    const rct_aids_t *aids = &rct_model_aids;
    if (!aids->confusion || label >= rct_model_info.classes || !rct_model_input_is_sound()) {
        return RCT_ERR_ARGUMENT;
    }
    const uint16_t guess = rct_argmax(rct_model_predict(), (uint16_t)rct_model_info.classes);
    uint16_t *count = &aids->confusion[label * rct_model_info.classes + guess];
    *count = (uint16_t)(*count + (*count < UINT16_MAX));
    *right = guess == label;
    aids->progress->count++;
    aids->progress->score += *right;
    return RCT_OK;
}

rct_status_t rct_model_evaluate_target(uint32_t *distance)
{
    const rct_aids_t *aids = &rct_model_aids;
    const int8_t *target = rct_model_target();
    if (!aids->progress || !target || !rct_model_input_is_sound()) {
        return RCT_ERR_ARGUMENT;
    }
    const int8_t *output = rct_model_predict();
    *distance = 0;
    for (uint32_t i = 0; i < rct_model_info.classes; i++) {
        *distance += (uint32_t)(output[i] > target[i] ? output[i] - target[i] : target[i] - output[i]);
    }
    aids->progress->count++;
    aids->progress->score += *distance;
    return RCT_OK;
}

rct_verdict_t rct_model_judge(uint16_t patience)
{
    const rct_aids_t *aids = &rct_model_aids;
    rct_progress_t *progress = aids->progress;
    if (!progress || progress->stopped) {
        return RCT_VERDICT_STOP;
    }
    const bool more_is_better = aids->confusion != NULL;
    const bool better = more_is_better ? progress->score > progress->best : progress->score < progress->best;
    if (better || !progress->judged) {
        progress->best = progress->score;
        progress->waited = 0;
        progress->judged = true;
        if (aids->best) {
            rct_copy(aids->best, rct_model_parameters(), rct_model_info.parameter_bytes);
        }
        return RCT_VERDICT_BETTER;
    }
    progress->waited++;
    progress->stopped = progress->waited >= patience;
    return progress->stopped ? RCT_VERDICT_STOP : RCT_VERDICT_WAIT;
}

rct_status_t rct_model_roll_back(void)
{
    const rct_aids_t *aids = &rct_model_aids;
    if (!aids->best || !aids->progress->judged) {
        return RCT_ERR_ARGUMENT;
    }
#if RCT_HAS_WIDTHS
    rct_adapt_restore(aids->adaptation, aids->best);
#else
    rct_copy(rct_model_parameters(), aids->best, rct_model_info.parameter_bytes);
#endif
    rct_clear(aids->held, aids->held_bytes);
    return RCT_OK;
}

void rct_aids_reset(const rct_aids_t *aids)
{
    if (aids->progress) {
        const rct_progress_t start = {0, 0, 0, 0, false, false};
        *aids->progress = start;
    }
    if (aids->confusion) {
        rct_clear(aids->confusion, confusion_bytes());
    }
    if (aids->replay) {
        const rct_replay_state_t start = {RCT_REPLAY_SEED, 0};
        *aids->replay->state = start;
        rct_clear(aids->replay->classes, rct_model_info.classes * (uint32_t)sizeof(rct_replay_class_t));
    }
}
