#include "phases.h"

#include "board.h"
#include "rct_model.h"
#include "update.h"

#include <stddef.h>

/* ---- sizes: small enough for every part, large enough that calls do not count ------------------------- */

#define SIDE          8
#define CHANNELS      16
#define CONV_CHANNELS 8
#define IMAGE         (SIDE * SIDE * CHANNELS)
#define DEPTH         256
#define UNITS         32
#define TAUGHT        8

/* ---- constants, in flash as those of a network -------------------------------------------------------- */

/* Bytes of which about half of the bits change from one to the next, as weights do. */
#define BYTES_4(seed)                                                                                        \
    (seed) & 255, ((seed) * 53 + 91) & 255, ((seed) * 101 + 7) & 255, ((seed) * 197 + 45) & 255
#define BYTES_16(seed)  BYTES_4(seed), BYTES_4((seed) + 3), BYTES_4((seed) + 17), BYTES_4((seed) + 29)
#define BYTES_64(seed)  BYTES_16(seed), BYTES_16((seed) + 5), BYTES_16((seed) + 23), BYTES_16((seed) + 41)
#define BYTES_256(seed) BYTES_64(seed), BYTES_64((seed) + 7), BYTES_64((seed) + 31), BYTES_64((seed) + 59)
#define BYTES_1024(seed)                                                                                     \
    BYTES_256(seed), BYTES_256((seed) + 11), BYTES_256((seed) + 37), BYTES_256((seed) + 67)

static const uint8_t dense_rows[UNITS * DEPTH] = {BYTES_1024(1), BYTES_1024(2), BYTES_1024(3), BYTES_1024(4),
                                                  BYTES_1024(5), BYTES_1024(6), BYTES_1024(7), BYTES_1024(8)};
static const uint8_t conv_rows[CHANNELS * 9 * CONV_CHANNELS] = {BYTES_1024(9), BYTES_64(10), BYTES_64(11)};
static const uint8_t point_rows[CHANNELS * CHANNELS] = {BYTES_256(12)};
static const int32_t bias[UNITS] = {120, -45, 300, 7, -88, 19, 64, -230};

static const int32_t multiplier[1] = {1395864371};
static const int8_t shift[1] = {-6};
static const int16_t step_mantissa[1] = {20000};
static const int8_t step_shift[1] = {14};

/* ---- buffers --------------------------------------------------------------------------------------- */

static int8_t image[IMAGE];
static int8_t result[IMAGE];
static int8_t scratch[DEPTH];
static int32_t sums[DEPTH];
static int8_t error[CHANNELS];
static uint8_t taught_rows[TAUGHT * DEPTH];
static int32_t taught_bias[TAUGHT];
static rct_gain_t gain;
static rct_backward_t backward;

/* ---- ops ------------------------------------------------------------------------------------------- */

#define REQUANT {.multiplier = multiplier, .shift = shift, .zero_point = -3, .act_min = -128, .act_max = 127}

static const rct_conv_2d_t conv_3x3 = {
    .window = {SIDE, SIDE, CONV_CHANNELS, SIDE, SIDE, CHANNELS, 3, 3, 1, 1, 1, 1},
    .weights = {conv_rows, bias, CHANNELS, 9 * CONV_CHANNELS, 9 * CONV_CHANNELS, 8, NULL},
    .input_zero_point = 5,
    .requant = REQUANT,
};

static const rct_conv_2d_t conv_1x1 = {
    .window = {SIDE, SIDE, CHANNELS, SIDE, SIDE, CHANNELS, 1, 1, 1, 1, 0, 0},
    .weights = {point_rows, bias, CHANNELS, CHANNELS, CHANNELS, 8, NULL},
    .input_zero_point = 5,
    .requant = REQUANT,
};

static const rct_fully_connected_t dense = {
    .weights = {dense_rows, bias, UNITS, DEPTH, DEPTH, 8, NULL},
    .input_zero_point = 5,
    .requant = REQUANT,
};

static const rct_pool_2d_t pool = {
    .window = {SIDE, SIDE, CHANNELS, SIDE / 2, SIDE / 2, CHANNELS, 2, 2, 2, 2, 0, 0},
    .act_min = -128,
    .act_max = 127,
};

static const rct_fully_connected_t taught = {
    .weights = {taught_rows, taught_bias, TAUGHT, DEPTH, DEPTH, 8, NULL},
    .input_zero_point = 5,
    .requant = REQUANT,
};

static const rct_learn_t learn = {
    .rows = taught_rows,
    .bias = taught_bias,
    .weight_step = {step_mantissa, step_shift, 0},
    .bias_step = {step_mantissa, step_shift, 0},
    .bias_limit = 1 << 20,
    .stochastic = true,
};

static const rct_grad_t grad = {.learn = &learn, .gain = &gain, .row = scratch, .sums = sums};

/* ---- phases ---------------------------------------------------------------------------------------- */

const char *const rct_phase_names[RCT_PHASES] = {
#define RCT_PHASE(name, kind, percent) #name,
#include "phases.def"
#undef RCT_PHASE
};

void rct_phases_prepare(void)
{
    rct_copy(image, dense_rows, sizeof image);
    rct_copy(taught_rows, dense_rows, sizeof taught_rows);
    for (int32_t i = 0; i < CHANNELS; i++) {
        error[i] = (int8_t)(i % 2 ? 3 : -2);
    }
    gain = RCT_GAIN_UNSET;
    backward.random = 1u;
}

/* The update alone, of one row. Most weights stay, as in a training that goes well. */
static void update_row(void)
{
    const rct_row_t row = rct_row(&taught.weights, &learn, 0, 26 - step_shift[0]);
    backward.random = rct_update_from_input(&row, image, taught.input_zero_point, 3, backward.random);
}

/* A whole backward pass of a layer. */
static void teach(void)
{
    backward.exponent = 12;
    backward.loss_exponent = 12;
    rct_fully_connected_grad(&taught, &grad, image, error, &backward, result);
}

static bool run_once(uint32_t phase)
{
    switch (phase) {
    case RCT_PHASE_copy_first:
    case RCT_PHASE_copy_last:
        rct_copy(result, image, sizeof result);
        return true;
    case RCT_PHASE_conv_3x3:
        rct_conv_2d(&conv_3x3, image, scratch, result);
        return true;
    case RCT_PHASE_conv_1x1:
        rct_conv_2d(&conv_1x1, image, scratch, result);
        return true;
    case RCT_PHASE_dense:
        rct_fully_connected(&dense, image, scratch, result);
        return true;
    case RCT_PHASE_pool:
        rct_average_pool_2d(&pool, image, result);
        return true;
    case RCT_PHASE_update:
        update_row();
        return true;
    case RCT_PHASE_learn:
        teach();
        return true;
    case RCT_PHASE_mask:
        rct_mask(image, IMAGE, -128, 127, result);
        return true;
    case RCT_PHASE_flash_erase:
        return rct_board_flash_erase();
    case RCT_PHASE_flash_write:
        return rct_board_flash_write();
    default:
        return false;
    }
}

bool rct_phase_run(uint32_t phase, uint32_t iterations)
{
    bool done = true;
    for (uint32_t i = 0; i < iterations && done; i++) {
        done = run_once(phase);
    }
    return done;
}
