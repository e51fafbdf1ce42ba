/* Where the parameters of a layer lie, and their repacking in place (ARITHMETIC.md 10). */
#include "adapt.h"
#include "integers.h"
#include "pack.h"
#include "random.h"
#include "wide.h"

#define OCTAVE_GAIN 512 /* what an octave adds to a gain: to the sums, and to their exponent */

/* ---- places ------------------------------------------------------------------------------------------ */

const rct_weights_t *rct_exported(const rct_adapted_layer_t *layer)
{
    return layer->conv_2d ? &layer->conv_2d->weights : &layer->fully_connected->weights;
}

uint32_t rct_room(const rct_adapted_layer_t *layer, int32_t bits)
{
    return (layer->rows * rct_row_bytes(rct_exported(layer), bits) + 3u) / 4u * 4u;
}

static uint32_t header_bytes(const rct_adaptation_t *adaptation)
{
    return (2u * adaptation->count + 3u) / 4u * 4u;
}

static uint32_t layer_bytes(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_adapted_layer_t *exported = &adaptation->layers[layer];
    return rct_room(exported, rct_bits_of(adaptation, layer)) + 4u * rct_exported(exported)->channels;
}

uint8_t *rct_rows_of(const rct_adaptation_t *adaptation, int32_t layer)
{
    uint32_t place = header_bytes(adaptation);
    for (int32_t i = 0; i < layer; i++) {
        place += layer_bytes(adaptation, i);
    }
    return &adaptation->parameters[place];
}

int32_t *rct_bias_of(const rct_adaptation_t *adaptation, int32_t layer)
{
    const uint32_t room = rct_room(&adaptation->layers[layer], rct_bits_of(adaptation, layer));
    return (int32_t *)(void *)(rct_rows_of(adaptation, layer) + room);
}

/* ---- binding ----------------------------------------------------------------------------------------- */

static void bind_weights(const rct_adaptation_t *adaptation, int32_t layer, rct_weights_t *weights)
{
    const int32_t bits = rct_bits_of(adaptation, layer);
    if (adaptation->layers[layer].rows != 0) { /* else they stay where they were exported to */
        weights->rows = rct_rows_of(adaptation, layer);
    }
    weights->bias = rct_bias_of(adaptation, layer);
    weights->row_bytes = (uint16_t)rct_row_bytes(weights, bits);
    weights->bits = (uint8_t)bits;
}

/* Copies the op of a layer; returns its weights, bound. */
static rct_weights_t *bind_op(const rct_adaptation_t *adaptation, int32_t layer, rct_bound_op_t *op)
{
    const rct_adapted_layer_t *exported = &adaptation->layers[layer];
    rct_weights_t *weights = &op->fully_connected.weights;
    if (exported->conv_2d) {
        op->conv_2d = *exported->conv_2d;
        weights = &op->conv_2d.weights;
    } else {
        op->fully_connected = *exported->fully_connected;
    }
    bind_weights(adaptation, layer, weights);
    return weights;
}

const rct_bound_op_t *rct_bind(const rct_adaptation_t *adaptation, int32_t layer, rct_bound_op_t *op)
{
    const int32_t channels = bind_op(adaptation, layer, op)->channels;
    const int32_t octave = rct_octave_of(adaptation, layer);
    rct_requant_t *requant =
        adaptation->layers[layer].conv_2d ? &op->conv_2d.requant : &op->fully_connected.requant;
    for (int32_t i = 0; i < (requant->per_channel ? channels : 1); i++) {
        adaptation->shifts[i] = (int8_t)(requant->shift[i] + octave);
    }
    requant->shift = adaptation->shifts;
    return op;
}

void rct_bind_grad(const rct_adaptation_t *adaptation, int32_t layer, rct_bound_t *bound,
                   rct_backward_t *backward)
{
    const rct_weights_t *weights = bind_op(adaptation, layer, &bound->op);
    bound->octave = rct_octave_of(adaptation, layer);
    bound->grad = *adaptation->layers[layer].grad;
#if RCT_HAS_HELD
    bound->held = *(const rct_held_t *)(const void *)bound->grad.learn;
    bound->held.shape = weights;
    bound->held.octave = bound->octave;
    rct_learn_t *learn = &bound->held.learn;
#else
    (void)weights;
    rct_learn_t *learn = &bound->learn;
    *learn = *bound->grad.learn;
#endif
    learn->rows = rct_rows_of(adaptation, layer);
    learn->bias = rct_bias_of(adaptation, layer);
    bound->grad.learn = learn;
    bound->asked = &adaptation->widths[layer].asked;
    backward->exponent += bound->octave;
}

/* ---- repacking --------------------------------------------------------------------------------------- */

/* Zeros behind the last weight of a row. */
static void clear_end_of_row(uint8_t *row, int32_t depth, int32_t bits)
{
    const int32_t used = depth * bits % 8;
    if (used != 0) {
        row[depth * bits / 8] &= (uint8_t)((1u << used) - 1u);
    }
}

/* Moves all that lies behind `from`, up to `end`, by a number of bytes, and fills with zeros what it leaves
 * behind at the end. */
static void move_tail(uint8_t *from, uint8_t *end, int32_t distance)
{
    if (distance > 0) {
        for (uint8_t *byte = end; byte > from; byte--) {
            byte[distance - 1] = byte[-1];
        }
        return;
    }
    for (uint8_t *byte = from; byte < end; byte++) {
        byte[distance] = *byte;
    }
    for (int32_t i = distance; i < 0; i++) {
        end[i] = 0;
    }
}

static void move_gain(const rct_adaptation_t *adaptation, int32_t layer, int32_t octaves)
{
    rct_gain_t *gain = adaptation->layers[layer].grad->gain;
    if (gain && *gain != RCT_GAIN_UNSET) {
        *gain -= OCTAVE_GAIN * octaves;
    }
}

static void set_header(const rct_adaptation_t *adaptation, int32_t layer, int32_t bits, int32_t octaves)
{
    move_gain(adaptation, layer, octaves);
    adaptation->parameters[2 * layer] = (uint8_t)bits;
    adaptation->parameters[2 * layer + 1] = (uint8_t)(rct_octave_of(adaptation, layer) + octaves);
}

/* Whether the kernels see the last of `bits` bits: then what they see changes its scale with it. */
static bool is_seen(int32_t bits)
{
    return !RCT_WIDE_WEIGHTS || bits <= 8;
}

/* Whether no bias of a layer is beyond its limit shifted to the right. */
static bool biases_are_within(const rct_adaptation_t *adaptation, int32_t layer, int32_t shift)
{
    const rct_adapted_layer_t *exported = &adaptation->layers[layer];
    const int32_t *bias = rct_bias_of(adaptation, layer);
    const int32_t limit = exported->grad->learn->bias_limit >> shift;
    for (int32_t i = 0; i < rct_exported(exported)->channels; i++) {
        if (bias[i] < -limit || bias[i] > limit) {
            return false;
        }
    }
    return true;
}

bool rct_can_double(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_adapted_layer_t *exported = &adaptation->layers[layer];
    if (!is_seen(rct_bits_of(adaptation, layer) + 1)) {
        return true;
    }
    return rct_octave_of(adaptation, layer) > exported->lowest_octave &&
           biases_are_within(adaptation, layer, 1);
}

void rct_double(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_weights_t *weights = rct_exported(&adaptation->layers[layer]);
    const int32_t old_bits = rct_bits_of(adaptation, layer), bits = old_bits + 1;
    const uint32_t old_bytes = rct_row_bytes(weights, old_bits), bytes = rct_row_bytes(weights, bits);
    const uint32_t old_room = rct_room(&adaptation->layers[layer], old_bits);
    const uint32_t room = rct_room(&adaptation->layers[layer], bits);
    uint8_t *rows = rct_rows_of(adaptation, layer);
    move_tail(rows + old_room, rct_rows_of(adaptation, adaptation->count), (int32_t)(room - old_room));
    /* From the last weight on: none moves to where another one waits. */
    for (uint32_t channel = adaptation->layers[layer].rows; channel-- > 0;) {
        for (int32_t i = weights->depth - 1; i >= 0; i--) {
            const int32_t weight = rct_read_weight(&rows[channel * old_bytes], i, old_bits);
            rct_write_weight(&rows[channel * bytes], i, bits, 2 * weight);
        }
        clear_end_of_row(&rows[channel * bytes], weights->depth, bits);
    }
    for (uint32_t i = adaptation->layers[layer].rows * bytes; i < room; i++) {
        rows[i] = 0;
    }
    set_header(adaptation, layer, bits, is_seen(bits) ? -1 : 0);
    int32_t *bias = rct_bias_of(adaptation, layer);
    for (int32_t i = 0; is_seen(bits) && i < weights->channels; i++) {
        bias[i] *= 2;
    }
    adaptation->widths[layer].gavg *= 2;
}

/* Half of a value: an odd one draws its direction, or goes to the even neighbour. */
static int32_t halved(int32_t value, bool stochastic, uint32_t *random)
{
    if (value % 2 == 0) {
        return value / 2;
    }
    if (!stochastic) {
        return (value + ((value >> 1) & 1)) >> 1;
    }
    *random = rct_random(*random);
    return (value >> 1) + (int32_t)(*random >> 31);
}

void rct_halve(const rct_adaptation_t *adaptation, int32_t layer, int32_t bits, rct_backward_t *backward)
{
    const rct_weights_t *weights = rct_exported(&adaptation->layers[layer]);
    const int32_t old_bits = rct_bits_of(adaptation, layer), top = (1 << (bits - 1)) - 1;
    const uint32_t old_bytes = rct_row_bytes(weights, old_bits), bytes = rct_row_bytes(weights, bits);
    const uint32_t old_room = rct_room(&adaptation->layers[layer], old_bits);
    const uint32_t room = rct_room(&adaptation->layers[layer], bits);
    const bool rescales = is_seen(old_bits) || bits == old_bits;
    uint8_t *rows = rct_rows_of(adaptation, layer);
    for (uint32_t channel = 0; channel < adaptation->layers[layer].rows; channel++) {
        for (int32_t i = 0; i < weights->depth; i++) {
            const int32_t weight = rct_read_weight(&rows[channel * old_bytes], i, old_bits);
            const int32_t half = halved(weight, adaptation->stochastic, &backward->random);
            rct_write_weight(&rows[channel * bytes], i, bits, rct_clamp(half, -top, top));
        }
        clear_end_of_row(&rows[channel * bytes], weights->depth, bits);
    }
    for (uint32_t i = adaptation->layers[layer].rows * bytes; i < room; i++) {
        rows[i] = 0;
    }
    move_tail(rows + old_room, rct_rows_of(adaptation, adaptation->count), (int32_t)room - (int32_t)old_room);
    set_header(adaptation, layer, bits, rescales ? 1 : 0);
    int32_t *bias = rct_bias_of(adaptation, layer);
    for (int32_t i = 0; rescales && i < weights->channels; i++) {
        bias[i] = halved(bias[i], adaptation->stochastic, &backward->random);
    }
    adaptation->widths[layer].gavg /= 2;
}

/* ---- the block as a whole ---------------------------------------------------------------------------- */

static void forget_steps(const rct_adaptation_t *adaptation)
{
    for (int32_t i = 0; i < adaptation->count; i++) {
        adaptation->widths[i].asked = 0;
        adaptation->widths[i].gavg = 0;
    }
    *adaptation->steps = 0;
#if RCT_HAS_RATES
    *adaptation->rates = 0;
#endif
}

#if RCT_HAS_AIDS
void rct_adapt_restore(const rct_adaptation_t *adaptation, const uint8_t *parameters)
{
    for (int32_t i = 0; i < adaptation->count; i++) {
        move_gain(adaptation, i, (int8_t)parameters[2 * i + 1] - rct_octave_of(adaptation, i));
    }
    for (uint32_t i = 0; i < adaptation->parameter_bytes; i++) {
        adaptation->parameters[i] = parameters[i];
    }
    forget_steps(adaptation);
}
#endif

void rct_adapt_reset(const rct_adaptation_t *adaptation)
{
    for (uint32_t i = 0; i < adaptation->parameter_bytes; i++) {
        adaptation->parameters[i] = 0;
    }
    for (int32_t i = 0; i < adaptation->count; i++) {
        const rct_weights_t *exported = rct_exported(&adaptation->layers[i]);
        adaptation->parameters[2 * i] = exported->bits;
        uint8_t *rows = rct_rows_of(adaptation, i);
        for (uint32_t k = 0; k < (uint32_t)adaptation->layers[i].rows * exported->row_bytes; k++) {
            rows[k] = exported->rows[k];
        }
        int32_t *bias = rct_bias_of(adaptation, i);
        for (int32_t channel = 0; channel < exported->channels; channel++) {
            bias[channel] = exported->bias[channel];
        }
    }
    forget_steps(adaptation);
}

bool rct_adapt_is_sound(const rct_adaptation_t *adaptation)
{
    uint32_t room = 0;
    for (int32_t i = 0; i < adaptation->count; i++) {
        const rct_adapted_layer_t *layer = &adaptation->layers[i];
        const int32_t bits = rct_bits_of(adaptation, i), octave = rct_octave_of(adaptation, i);
        if (bits < layer->min_bits || bits > layer->max_bits || octave < layer->lowest_octave ||
            octave > layer->highest_octave) {
            return false;
        }
        room += rct_room(layer, bits);
    }
    if (room > adaptation->budget_bytes) {
        return false;
    }
    for (int32_t i = 0; i < adaptation->count; i++) {
        if (!biases_are_within(adaptation, i, 0)) {
            return false;
        }
    }
    return true;
}
