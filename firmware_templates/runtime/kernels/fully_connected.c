/* FULLY_CONNECTED, forward. */
#include "../rct.h"
#include "dot.h"
#include "pack.h"
#include "requantize.h"

/* Outputs of `count` channels, from `channel` on. `requant` serves all channels where there is one scale. */
static void write_outputs(const rct_fully_connected_t *op, const rct_requant_channel_t *requant,
                          const int32_t *acc, int32_t channel, int32_t count, int8_t *output)
{
    if (!op->requant.per_channel) {
        for (int32_t i = 0; i < count; i++) {
            output[channel + i] = rct_requantize(acc[i], requant);
        }
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        const rct_requant_channel_t own = rct_requant_channel(&op->requant, channel + i);
        output[channel + i] = rct_requantize(acc[i], &own);
    }
}

/* rct_dot_4() with all registers to itself. */
RCT_APART void rct_fully_connected_dot_4(const int8_t *weights, int32_t stride, const int8_t *input,
                                         int32_t count, int32_t offset, int32_t *acc)
{
    rct_dot_4(weights, stride, input, count, offset, acc);
}

/* At least four rows of 8 bits. The last four begin early: some are computed twice. */
static void run_fours(const rct_fully_connected_t *op, const rct_requant_channel_t *requant,
                      const int8_t *input, int8_t *output)
{
    const int32_t depth = op->weights.depth;
    const int32_t last = op->weights.channels - 4;
    for (int32_t first = 0; first <= last + 3; first += 4) {
        const int32_t channel = rct_min(first, last);
        const int8_t *weights = (const int8_t *)&op->weights.rows[(uint32_t)channel * (uint32_t)depth];
        const int32_t *bias = &op->weights.bias[channel];
        int32_t acc[4] = {bias[0], bias[1], bias[2], bias[3]};
        rct_fully_connected_dot_4(weights, depth, input, depth, -op->input_zero_point, acc);
        write_outputs(op, requant, acc, channel, 4, output);
    }
}

/* Two packed rows and what their outputs have so far. */
typedef struct {
    const uint8_t *row[2];
    int32_t acc[2];
} pair_t;

/* One input against a word of four weights of either row. An input of 0 adds nothing. */
RCT_INLINE void add_input(int32_t *acc_0, int32_t *acc_1, uint32_t word_0, uint32_t word_1, int32_t number,
                          int32_t bits, int32_t value)
{
    if (value != 0) {
        *acc_0 += rct_weight_of_4(word_0, number, bits) * value;
        *acc_1 += rct_weight_of_4(word_1, number, bits) * value;
    }
}

RCT_INLINE void dot_pair(pair_t *pair, const int8_t *input, int32_t depth, int32_t offset, int32_t bits)
{
    const uint8_t *row_0 = pair->row[0], *row_1 = pair->row[1];
    int32_t acc_0 = pair->acc[0], acc_1 = pair->acc[1];
    int32_t skipped = 0; /* bits of the byte before the first weight: 4 or, always where `bits` is even, 0 */
    for (int32_t group = 0; group < depth / 4; group++, input += 4) {
        const uint32_t word_0 = rct_load_4(row_0, bits) >> skipped;
        const uint32_t word_1 = rct_load_4(row_1, bits) >> skipped;
        skipped += 4 * bits;
        row_0 += skipped / 8;
        row_1 += skipped / 8;
        skipped %= 8;
        add_input(&acc_0, &acc_1, word_0, word_1, 0, bits, input[0] + offset);
        add_input(&acc_0, &acc_1, word_0, word_1, 1, bits, input[1] + offset);
        add_input(&acc_0, &acc_1, word_0, word_1, 2, bits, input[2] + offset);
        add_input(&acc_0, &acc_1, word_0, word_1, 3, bits, input[3] + offset);
    }
    for (int32_t i = depth / 4 * 4; i < depth; i++, input++) {
        acc_0 += rct_read_weight(pair->row[0], i, bits) * (*input + offset);
        acc_1 += rct_read_weight(pair->row[1], i, bits) * (*input + offset);
    }
    pair->acc[0] = acc_0;
    pair->acc[1] = acc_1;
}

#if RCT_WIDE_WEIGHTS
RCT_APART void rct_fully_connected_dot_pair_wide(pair_t *pair, const int8_t *input, int32_t depth,
                                                 int32_t offset, int32_t bits)
{
    const uint8_t *row_0 = pair->row[0], *row_1 = pair->row[1];
    int32_t acc_0 = pair->acc[0], acc_1 = pair->acc[1];
    uint32_t place = rct_upper_place(0, bits);
    for (int32_t i = 0; i < depth; i++, place += (uint32_t)bits) {
        const int32_t value = input[i] + offset;
        if (value != 0) {
            acc_0 += rct_narrow(row_0, place) * value;
            acc_1 += rct_narrow(row_1, place) * value;
        }
    }
    pair->acc[0] = acc_0;
    pair->acc[1] = acc_1;
}
#endif

/* The common widths have code of their own, with constant shifts. */
RCT_APART void rct_fully_connected_dot_pair_4_bits(pair_t *pair, const int8_t *input, int32_t depth,
                                                   int32_t offset)
{
    dot_pair(pair, input, depth, offset, 4);
}

RCT_APART void rct_fully_connected_dot_pair_6_bits(pair_t *pair, const int8_t *input, int32_t depth,
                                                   int32_t offset)
{
    dot_pair(pair, input, depth, offset, 6);
}

RCT_APART void rct_fully_connected_dot_pair_any(pair_t *pair, const int8_t *input, int32_t depth,
                                                int32_t offset, int32_t bits)
{
    dot_pair(pair, input, depth, offset, bits);
}

/* Two rows at a time; the last one of an odd number is computed with itself. */
static void run_pairs(const rct_fully_connected_t *op, const rct_requant_channel_t *requant,
                      const int8_t *input, int8_t *output)
{
    const rct_weights_t *weights = &op->weights;
    const int32_t depth = weights->depth;
    const int32_t offset = -op->input_zero_point;
    for (int32_t channel = 0; channel < weights->channels; channel += 2) {
        const int32_t count = rct_min(weights->channels - channel, 2);
        const int32_t last = channel + count - 1;
        pair_t pair = {{rct_weights_row(weights, channel), rct_weights_row(weights, last)},
                       {weights->bias[channel], weights->bias[last]}};
        if (weights->bits == 6) {
            rct_fully_connected_dot_pair_6_bits(&pair, input, depth, offset);
        } else if (weights->bits == 4) {
            rct_fully_connected_dot_pair_4_bits(&pair, input, depth, offset);
#if RCT_WIDE_WEIGHTS
        } else if (weights->bits > 8) {
            rct_fully_connected_dot_pair_wide(&pair, input, depth, offset, weights->bits);
#endif
        } else {
            rct_fully_connected_dot_pair_any(&pair, input, depth, offset, weights->bits);
        }
        write_outputs(op, requant, pair.acc, channel, count, output);
    }
}

void rct_fully_connected(const rct_fully_connected_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    (void)row; /* all ops with weights have one signature */
    const rct_requant_channel_t requant = rct_requant_channel(&op->requant, 0);
    if (op->weights.bits == 8 && op->weights.channels >= 4 && !(RCT_SPLIT_ROWS && op->weights.split)) {
        run_fours(op, &requant, input, output);
    } else {
        run_pairs(op, &requant, input, output);
    }
}
