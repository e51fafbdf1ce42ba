/* The smallest program: reads labelled samples of real numbers until the stream ends, predicts each and,
 * where BENCH_LEARNS is 1, learns from it. A sample is a uint32 label and BENCH_INPUTS floats. */
#include "marks.h"
#include "rct_model.h"
#include "rct_port.h"

static float sample[BENCH_INPUTS];

/* To int8, as the first tensor of the network wants it. */
static void quantize(int8_t *input)
{
    for (uint32_t i = 0; i < BENCH_INPUTS; i++) {
        input[i] = (int8_t)((int32_t)(sample[i] * BENCH_INPUT_FACTOR + 0.5f) + BENCH_INPUT_ZERO_POINT);
    }
}

int main(void)
{
    uint32_t label;
    rct_model_reset();
    while (rct_port_read(&label, sizeof label) && rct_port_read(sample, sizeof sample)) {
        rct_mark_learn_begin();
        quantize(rct_model_input());
        rct_mark_predict_begin();
        (void)rct_model_predict();
        rct_mark_predict_end();
#if BENCH_LEARNS
        if (rct_model_learn((uint16_t)label) != RCT_OK) {
            return 1;
        }
#endif
        rct_mark_learn_end();
    }
    return 0;
}
