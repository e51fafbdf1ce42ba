/* The device's end of the wire: reads a command, carries it out, answers, until told to exit. */
#include <stddef.h>

#include "commands.h"
#include "frame.h"
#include "marks.h"
#include "rct_input.h"
#include "rct_model.h"
#include "rct_port.h"

#ifdef RCT_TRACE
static rct_frame_t traced;
static bool tracing; /* a training step predicts, too, and answers something else */

void rct_trace(const int8_t *output, uint32_t size)
{
    if (tracing) {
        (void)rct_frame_write(&traced, output, size);
    }
}

/* Answers with the outputs of all ops, one after the other. */
static rct_status_t predict(rct_frame_t *frame)
{
    const rct_status_t status = read_payload(frame, rct_model_input(), rct_model_info.input_bytes);
    if (status != RCT_OK) {
        return status;
    }
    if (!rct_model_input_is_sound()) {
        return answer(RCT_COMMAND_PREDICT, RCT_ERR_ARGUMENT, NULL, 0);
    }
    (void)rct_frame_begin_write(&traced, RCT_COMMAND_PREDICT, RCT_OK, rct_model_info.trace_bytes);
    tracing = true;
    (void)rct_model_predict();
    tracing = false;
    return rct_frame_end_write(&traced);
}
#else
static rct_status_t predict(rct_frame_t *frame)
{
    const rct_status_t status = read_payload(frame, rct_model_input(), rct_model_info.input_bytes);
    if (status != RCT_OK) {
        return status;
    }
    if (!rct_model_input_is_sound()) {
        return answer(RCT_COMMAND_PREDICT, RCT_ERR_ARGUMENT, NULL, 0);
    }
    rct_mark_predict_begin();
    const int8_t *logits = rct_model_predict();
    rct_mark_predict_end();
    return answer(RCT_COMMAND_PREDICT, RCT_OK, logits, rct_model_info.classes);
}
#endif

/* Payload: uint16 label, sample. Answers whether the network was right before it learnt. */
static rct_status_t learn(rct_frame_t *frame)
{
    uint8_t label_bytes[2];
    if (frame->length != sizeof label_bytes + rct_model_info.input_bytes) {
        return RCT_ERR_FRAME;
    }
    rct_status_t status = rct_frame_read(frame, label_bytes, sizeof label_bytes);
    frame->length = rct_model_info.input_bytes;
    status = status == RCT_OK ? read_payload(frame, rct_model_input(), frame->length) : status;
    if (status != RCT_OK) {
        return status;
    }
    if (!rct_model_input_is_sound()) {
        return answer(RCT_COMMAND_LEARN, RCT_ERR_ARGUMENT, NULL, 0);
    }
    const uint16_t label = (uint16_t)(label_bytes[0] | label_bytes[1] << 8);
    rct_mark_learn_begin();
    const uint8_t right = rct_argmax(rct_model_predict(), (uint16_t)rct_model_info.classes) == label;
    status = rct_model_learn(label);
    rct_mark_learn_end();
    return answer(RCT_COMMAND_LEARN, status, &right, sizeof right);
}

/* Payload: target, sample. Answers the sum of the differences between output and target before it learnt. */
static rct_status_t learn_target(rct_frame_t *frame)
{
    int8_t *target = rct_model_target();
    if (!target || frame->length != rct_model_info.classes + rct_model_info.input_bytes) {
        return target ? RCT_ERR_FRAME : RCT_ERR_ARGUMENT;
    }
    rct_status_t status = rct_frame_read(frame, target, rct_model_info.classes);
    frame->length = rct_model_info.input_bytes;
    status = status == RCT_OK ? read_payload(frame, rct_model_input(), frame->length) : status;
    if (status != RCT_OK) {
        return status;
    }
    if (!rct_model_input_is_sound()) {
        return answer(RCT_COMMAND_LEARN_TARGET, RCT_ERR_ARGUMENT, NULL, 0);
    }
    rct_mark_learn_begin();
    const int8_t *output = rct_model_predict();
    uint32_t distance = 0;
    for (uint32_t i = 0; i < rct_model_info.classes; i++) {
        distance += (uint32_t)(output[i] > target[i] ? output[i] - target[i] : target[i] - output[i]);
    }
    status = rct_model_learn_target();
    rct_mark_learn_end();
    return answer(RCT_COMMAND_LEARN_TARGET, status, &distance, sizeof distance);
}

/* A damaged frame must not leave damaged weights behind. */
static rct_status_t write_parameters(rct_frame_t *frame)
{
    const rct_status_t status = read_payload(frame, rct_model_parameters(), rct_model_info.parameter_bytes);
    const bool is_sound = status == RCT_OK && rct_model_parameters_are_sound();
    if (!is_sound) {
        rct_model_reset();
    }
    if (status != RCT_OK) {
        return status;
    }
    return answer(RCT_COMMAND_WRITE_PARAMETERS, is_sound ? RCT_OK : RCT_ERR_ARGUMENT, NULL, 0);
}

/* Answers with a rct_model_width_t for each layer whose width follows the training. */
static rct_status_t read_widths(void)
{
    rct_model_width_t width = {0};
    uint16_t count = 0;
    while (rct_model_width(count, &width) == RCT_OK) {
        count++;
    }
    rct_frame_t frame;
    rct_status_t status =
        rct_frame_begin_write(&frame, RCT_COMMAND_READ_WIDTHS, RCT_OK, count * (uint32_t)sizeof width);
    for (uint16_t layer = 0; status == RCT_OK && layer < count; layer++) {
        (void)rct_model_width(layer, &width);
        status = rct_frame_write(&frame, &width, sizeof width);
    }
    return status == RCT_OK ? rct_frame_end_write(&frame) : status;
}

static rct_status_t carry_out(rct_frame_t *frame)
{
    switch (frame->command) {
    case RCT_COMMAND_PREDICT:
        return predict(frame);
    case RCT_COMMAND_LEARN:
        return learn(frame);
    case RCT_COMMAND_LEARN_TARGET:
        return learn_target(frame);
    case RCT_COMMAND_WRITE_PARAMETERS:
        return write_parameters(frame);
    default:
        if (frame->command >= RCT_COMMAND_OF_OPTIONS) {
            return rct_option_command(frame);
        }
        break;
    }
    const rct_status_t status = read_payload(frame, NULL, 0);
    if (status != RCT_OK) {
        return status;
    }
    switch (frame->command) {
    case RCT_COMMAND_INFO:
        return answer(frame->command, RCT_OK, &rct_model_info, sizeof rct_model_info);
    case RCT_COMMAND_RESET:
        rct_model_reset();
        return answer(frame->command, RCT_OK, NULL, 0);
    case RCT_COMMAND_SELF_TEST:
        return answer(frame->command, rct_model_self_test(), NULL, 0);
    case RCT_COMMAND_READ_PARAMETERS:
        return answer(frame->command, RCT_OK, rct_model_parameters(), rct_model_info.parameter_bytes);
    case RCT_COMMAND_READ_WIDTHS:
        return read_widths();
    case RCT_COMMAND_EXIT:
        return answer(frame->command, RCT_OK, NULL, 0);
    default:
        return RCT_ERR_COMMAND;
    }
}

int main(void)
{
    rct_model_reset();
    for (;;) {
        rct_frame_t frame = {0};
        rct_status_t status = rct_frame_begin_read(&frame);
        if (status == RCT_ERR_STREAM) {
            return 0;
        }
        if (status == RCT_OK) {
            status = carry_out(&frame);
        }
        if (status != RCT_OK) {
            /* Where the stream is out of step nothing that follows can be trusted. */
            (void)answer(frame.command, status, NULL, 0);
            return 1;
        }
        if (frame.command == RCT_COMMAND_EXIT) {
            return 0;
        }
    }
}
