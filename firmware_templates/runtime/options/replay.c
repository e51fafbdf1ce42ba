/* A class-balanced reservoir: as many slots for each class as there is room, and each sample of a class with
 * the same chance (ARITHMETIC.md 8). */
#include "rct_aids.h"
#include "rct_input.h"
#include "random.h"

/* A number below `count`, which is at most 65536. */
static uint32_t draw(rct_replay_state_t *state, uint32_t count)
{
    state->random = rct_random(state->random);
    return (state->random >> 16) * count >> 16;
}

/* The class with the most slots, the first of equals. */
static uint16_t largest_class(const rct_replay_t *replay)
{
    uint16_t largest = 0;
    for (uint16_t i = 1; i < rct_model_info.classes; i++) {
        if (replay->classes[i].stored > replay->classes[largest].stored) {
            largest = i;
        }
    }
    return largest;
}

/* Slot number `index` among those of a class. */
static uint32_t slot_of(const rct_replay_t *replay, uint16_t label, uint32_t index)
{
    uint32_t slot = 0;
    for (;; slot++) {
        if (replay->labels[slot] == label && index-- == 0) {
            return slot;
        }
    }
}

static void store(const rct_replay_t *replay, uint32_t slot, uint16_t label)
{
    const uint32_t size = rct_model_info.input_bytes;
    rct_copy(&replay->samples[slot * size], rct_model_input(), size);
    replay->labels[slot] = label;
    replay->classes[label].stored++;
}

/* Every class with as many slots as the largest one has had its share. */
static void mark_full(const rct_replay_t *replay)
{
    const uint16_t most = replay->classes[largest_class(replay)].stored;
    for (uint32_t i = 0; i < rct_model_info.classes; i++) {
        replay->classes[i].full = replay->classes[i].full || replay->classes[i].stored == most;
    }
}

rct_status_t rct_model_remember(uint16_t label)
{
    const rct_replay_t *replay = rct_model_aids.replay;
    if (!replay || label >= rct_model_info.classes || !rct_model_input_is_sound()) {
        return RCT_ERR_ARGUMENT;
    }
    rct_replay_class_t *own = &replay->classes[label];
    own->seen = (uint16_t)(own->seen + (own->seen < UINT16_MAX));
    if (replay->state->filled < replay->slots) {
        store(replay, replay->state->filled++, label);
        return RCT_OK;
    }
    mark_full(replay);
    const uint16_t from = own->full ? label : largest_class(replay);
    const uint32_t index = draw(replay->state, own->full ? own->seen : replay->classes[from].stored);
    if (index < replay->classes[from].stored) {
        const uint32_t slot = slot_of(replay, from, index);
        replay->classes[from].stored--;
        store(replay, slot, label);
    }
    return RCT_OK;
}

rct_status_t rct_model_replay(uint16_t *slot)
{
    const rct_replay_t *replay = rct_model_aids.replay;
    if (!replay || replay->state->filled == 0) {
        return RCT_ERR_ARGUMENT;
    }
    const uint32_t size = rct_model_info.input_bytes;
    const uint32_t drawn = draw(replay->state, replay->state->filled);
    rct_copy(rct_model_input(), &replay->samples[drawn * size], size);
    (void)rct_model_predict();
    *slot = (uint16_t)drawn;
    return rct_model_learn(replay->labels[drawn]);
}
