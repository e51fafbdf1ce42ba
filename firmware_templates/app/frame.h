/*
 * Frames on the byte stream between a host and the device.
 *
 *   'R' 'T' | version (1) | command (1) | payload bytes (4) | payload | CRC-32 of all before (4)
 *
 * Numbers are little endian. A response carries the command with bit 7 set; its payload begins with an int32
 * status. The CRC is the one of zip and Ethernet.
 */
#ifndef RCT_FRAME_H
#define RCT_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "rct.h"

#define RCT_FRAME_VERSION  1
#define RCT_FRAME_RESPONSE 0x80u

typedef enum {
#define RCT_COMMAND(name, value) RCT_COMMAND_##name = (value),
#include "rct_command.def"
#undef RCT_COMMAND
} rct_command_t;

/* One frame on its way in or out. */
typedef struct {
    uint8_t command;
    uint32_t length; /* payload bytes */
    uint32_t crc;
} rct_frame_t;

/* Waits for a header. RCT_ERR_STREAM at the end of the stream, RCT_ERR_FRAME on anything that is no header.
 */
rct_status_t rct_frame_begin_read(rct_frame_t *frame);

/* Reads the next `size` bytes of the payload. */
rct_status_t rct_frame_read(rct_frame_t *frame, void *data, uint32_t size);

/* Reads the CRC and compares it. */
rct_status_t rct_frame_end_read(rct_frame_t *frame);

/* Sends the header and the status of a response with `size` more payload bytes. */
rct_status_t rct_frame_begin_write(rct_frame_t *frame, uint8_t command, rct_status_t status, uint32_t size);

rct_status_t rct_frame_write(rct_frame_t *frame, const void *data, uint32_t size);

rct_status_t rct_frame_end_write(rct_frame_t *frame);

#endif
