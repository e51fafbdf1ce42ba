/* Payloads and answers, as every command reads and writes them. */
#ifndef RCT_COMMANDS_H
#define RCT_COMMANDS_H

#include "frame.h"

/* From this number on: commands of options. */
#define RCT_COMMAND_OF_OPTIONS 64

/* Sends a status and `size` bytes. */
static inline rct_status_t answer(uint8_t command, rct_status_t status, const void *data, uint32_t size)
{
    rct_frame_t frame;
    rct_status_t sent = rct_frame_begin_write(&frame, command, status, size);
    if (sent == RCT_OK && size > 0) {
        sent = rct_frame_write(&frame, data, size);
    }
    return sent == RCT_OK ? rct_frame_end_write(&frame) : sent;
}

/* Reads what follows the header into one buffer and checks it. */
static inline rct_status_t read_payload(rct_frame_t *frame, void *data, uint32_t size)
{
    if (frame->length != size) {
        return RCT_ERR_FRAME;
    }
    const rct_status_t status = size > 0 ? rct_frame_read(frame, data, size) : RCT_OK;
    return status == RCT_OK ? rct_frame_end_read(frame) : status;
}

/* Carries out a command of the options that the export has; RCT_ERR_COMMAND for any other. */
rct_status_t rct_option_command(rct_frame_t *frame);

#endif
