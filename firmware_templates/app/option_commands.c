/* Commands of what an export adds: the learning rate, evaluation, rollback, replay. */
#include <stddef.h>

#include "commands.h"
#include "rct_model.h"
#include "rct_options.h"

#if RCT_HAS_RATES
    #include "rct_rates.h"

static rct_status_t set_rate(rct_frame_t *frame)
{
    uint8_t bytes[4];
    const rct_status_t status = read_payload(frame, bytes, sizeof bytes);
    if (status != RCT_OK) {
        return status;
    }
    const uint32_t rate =
        bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    return answer(frame->command, rct_model_set_rate(rate), NULL, 0);
}
#endif

#if RCT_HAS_AIDS
    #include "rct_aids.h"

/* Payload: a uint16, and `size` bytes to `data`. */
static rct_status_t read_number(rct_frame_t *frame, uint16_t *number, void *data, uint32_t size)
{
    uint8_t bytes[2];
    if (frame->length != sizeof bytes + size) {
        return RCT_ERR_FRAME;
    }
    const rct_status_t status = rct_frame_read(frame, bytes, sizeof bytes);
    *number = (uint16_t)(bytes[0] | bytes[1] << 8);
    frame->length = size;
    return status == RCT_OK ? read_payload(frame, data, size) : status;
}

/* Payload: uint16 label, sample; the sample goes to the network's input. */
static rct_status_t read_sample(rct_frame_t *frame, uint16_t *label)
{
    return read_number(frame, label, rct_model_input(), rct_model_info.input_bytes);
}

static rct_status_t evaluate(rct_frame_t *frame)
{
    uint16_t label;
    uint8_t right = 0;
    rct_status_t status = read_sample(frame, &label);
    if (status != RCT_OK) {
        return status;
    }
    status = rct_model_evaluate(label, &right);
    return answer(frame->command, status, &right, sizeof right);
}

/* Payload: target, sample. */
static rct_status_t evaluate_target(rct_frame_t *frame)
{
    int8_t *target = rct_model_target();
    uint32_t distance = 0;
    if (!target || frame->length != rct_model_info.classes + rct_model_info.input_bytes) {
        return target ? RCT_ERR_FRAME : RCT_ERR_ARGUMENT;
    }
    rct_status_t status = rct_frame_read(frame, target, rct_model_info.classes);
    frame->length = rct_model_info.input_bytes;
    status = status == RCT_OK ? read_payload(frame, rct_model_input(), frame->length) : status;
    if (status != RCT_OK) {
        return status;
    }
    status = rct_model_evaluate_target(&distance);
    return answer(frame->command, status, &distance, sizeof distance);
}

static rct_status_t remember(rct_frame_t *frame)
{
    uint16_t label;
    const rct_status_t status = read_sample(frame, &label);
    return status == RCT_OK ? answer(frame->command, rct_model_remember(label), NULL, 0) : status;
}

static rct_status_t judge(rct_frame_t *frame)
{
    uint16_t patience;
    const rct_status_t status = read_number(frame, &patience, NULL, 0);
    if (status != RCT_OK) {
        return status;
    }
    const uint8_t verdict = (uint8_t)rct_model_judge(patience);
    return answer(frame->command, RCT_OK, &verdict, sizeof verdict);
}

static rct_status_t replay(rct_frame_t *frame)
{
    uint16_t slot = 0;
    const rct_status_t status = rct_model_replay(&slot);
    return answer(frame->command, status, &slot, sizeof slot);
}

static rct_status_t read_confusion(rct_frame_t *frame)
{
    const uint32_t count = rct_model_info.classes * rct_model_info.classes;
    const uint16_t *confusion = rct_model_aids.confusion;
    return answer(frame->command, confusion ? RCT_OK : RCT_ERR_ARGUMENT, confusion,
                  confusion ? count * (uint32_t)sizeof *confusion : 0);
}

/* Answers uint16 slots in use, their labels, their samples. */
static rct_status_t read_replay(rct_frame_t *frame)
{
    const rct_replay_t *buffer = rct_model_aids.replay;
    if (!buffer) {
        return answer(frame->command, RCT_ERR_ARGUMENT, NULL, 0);
    }
    const uint16_t filled = (uint16_t)buffer->state->filled;
    const uint32_t labels = filled * (uint32_t)sizeof *buffer->labels;
    const uint32_t samples = filled * rct_model_info.input_bytes;
    rct_frame_t sent;
    rct_status_t status =
        rct_frame_begin_write(&sent, frame->command, RCT_OK, (uint32_t)sizeof filled + labels + samples);
    status = status == RCT_OK ? rct_frame_write(&sent, &filled, sizeof filled) : status;
    status = status == RCT_OK ? rct_frame_write(&sent, buffer->labels, labels) : status;
    status = status == RCT_OK ? rct_frame_write(&sent, buffer->samples, samples) : status;
    return status == RCT_OK ? rct_frame_end_write(&sent) : status;
}

/* Commands without a payload. */
static rct_status_t plain_command(rct_frame_t *frame)
{
    const rct_status_t status = read_payload(frame, NULL, 0);
    if (status != RCT_OK) {
        return status;
    }
    switch (frame->command) {
    case RCT_COMMAND_BEGIN_EVALUATION:
        rct_model_begin_evaluation();
        return answer(frame->command, RCT_OK, NULL, 0);
    case RCT_COMMAND_READ_CONFUSION:
        return read_confusion(frame);
    case RCT_COMMAND_ROLL_BACK:
        return answer(frame->command, rct_model_roll_back(), NULL, 0);
    case RCT_COMMAND_REPLAY:
        return replay(frame);
    case RCT_COMMAND_READ_REPLAY:
        return read_replay(frame);
    default:
        return RCT_ERR_COMMAND;
    }
}
#endif

rct_status_t rct_option_command(rct_frame_t *frame)
{
    switch (frame->command) {
#if RCT_HAS_RATES
    case RCT_COMMAND_SET_RATE:
        return set_rate(frame);
#endif
#if RCT_HAS_AIDS
    case RCT_COMMAND_EVALUATE:
        return evaluate(frame);
    case RCT_COMMAND_EVALUATE_TARGET:
        return evaluate_target(frame);
    case RCT_COMMAND_JUDGE:
        return judge(frame);
    case RCT_COMMAND_REMEMBER:
        return remember(frame);
    case RCT_COMMAND_BEGIN_EVALUATION:
    case RCT_COMMAND_READ_CONFUSION:
    case RCT_COMMAND_ROLL_BACK:
    case RCT_COMMAND_REPLAY:
    case RCT_COMMAND_READ_REPLAY:
        return plain_command(frame);
#endif
    default:
        return RCT_ERR_COMMAND;
    }
}
