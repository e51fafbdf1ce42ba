/* Which layers get a bit and which give one back: the policy of bit_decision.py, ARITHMETIC.md 10. */
#include "adapt.h"

#define HYSTERESIS 4 /* how much richer than the served one a layer must be to pay for it */
#define NO_LAYER   (-1)

/* Twice the gavg at the planned width, which is one bit away at most. */
static uint32_t wealth(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_width_t *width = &adaptation->widths[layer];
    return width->gavg << (width->planned - rct_bits_of(adaptation, layer) + 1);
}

static uint32_t planned_bytes(const rct_adaptation_t *adaptation)
{
    uint32_t total = 0;
    for (int32_t i = 0; i < adaptation->count; i++) {
        total += rct_room(&adaptation->layers[i], adaptation->widths[i].planned);
    }
    return total;
}

static bool starves(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_width_t *width = &adaptation->widths[layer];
    const int32_t bits = rct_bits_of(adaptation, layer);
    const uint32_t now = wealth(adaptation, layer);
    if (width->settled || width->planned > bits || now == 0 || now >= 2 * adaptation->t_min) {
        return false;
    }
    if (width->planned < bits) { /* gets back what it has paid */
        return true;
    }
    return bits < adaptation->layers[layer].max_bits && rct_can_double(adaptation, layer);
}

static int32_t poorest(const rct_adaptation_t *adaptation)
{
    int32_t found = NO_LAYER;
    for (int32_t i = 0; i < adaptation->count; i++) {
        const bool poorer = found == NO_LAYER || wealth(adaptation, i) < wealth(adaptation, found);
        if (poorer && starves(adaptation, i)) {
            found = i;
        }
    }
    return found;
}

/* The richest layer with at least `need` that can give a bit. */
static int32_t richest(const rct_adaptation_t *adaptation, int32_t served, uint32_t need)
{
    int32_t found = NO_LAYER;
    for (int32_t i = 0; i < adaptation->count; i++) {
        const int32_t planned = adaptation->widths[i].planned;
        const bool can_pay = i != served && planned > adaptation->layers[i].min_bits &&
                             planned >= rct_bits_of(adaptation, i) && wealth(adaptation, i) >= need;
        if (can_pay && (found == NO_LAYER || wealth(adaptation, i) > wealth(adaptation, found))) {
            found = i;
        }
    }
    return found;
}

/* One bit more for a layer, paid by others if need be; nothing changes if none can. */
static void serve(const rct_adaptation_t *adaptation, int32_t served)
{
    const uint32_t need = HYSTERESIS * wealth(adaptation, served);
    for (int32_t i = 0; i < adaptation->count; i++) {
        adaptation->widths[i].before = adaptation->widths[i].planned;
    }
    adaptation->widths[served].settled = true;
    adaptation->widths[served].planned++;
    while (planned_bytes(adaptation) > adaptation->budget_bytes) {
        const int32_t payer = richest(adaptation, served, need);
        if (payer != NO_LAYER) {
            adaptation->widths[payer].planned--;
            continue;
        }
        for (int32_t i = 0; i < adaptation->count; i++) {
            adaptation->widths[i].planned = adaptation->widths[i].before;
        }
        return;
    }
}

void rct_decide(const rct_adaptation_t *adaptation)
{
    for (int32_t i = 0; i < adaptation->count; i++) {
        rct_width_t *width = &adaptation->widths[i];
        const int32_t bits = rct_bits_of(adaptation, i);
        const bool gives = width->gavg > adaptation->t_max && bits > adaptation->layers[i].min_bits;
        width->planned = (uint8_t)(gives ? bits - 1 : bits);
        width->settled = false;
    }
    for (int32_t layer; (layer = poorest(adaptation)) != NO_LAYER;) {
        serve(adaptation, layer);
    }
}
