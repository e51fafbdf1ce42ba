#include "frame.h"

#include "rct_port.h"

#define HEADER_BYTES 8u

static uint32_t crc32_update(uint32_t crc, const void *data, uint32_t size)
{
    const uint8_t *bytes = data;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1u) ? 0xEDB88320u : 0u);
        }
    }
    return crc;
}

static void put_u32(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t get_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

rct_status_t rct_frame_begin_read(rct_frame_t *frame)
{
    uint8_t header[HEADER_BYTES];
    if (!rct_port_read(header, HEADER_BYTES)) {
        return RCT_ERR_STREAM;
    }
    if (header[0] != 'R' || header[1] != 'T' || header[2] != RCT_FRAME_VERSION) {
        return RCT_ERR_FRAME;
    }
    frame->command = header[3];
    frame->length = get_u32(header + 4);
    frame->crc = crc32_update(0xFFFFFFFFu, header, HEADER_BYTES);
    return RCT_OK;
}

rct_status_t rct_frame_read(rct_frame_t *frame, void *data, uint32_t size)
{
    if (!rct_port_read(data, size)) {
        return RCT_ERR_STREAM;
    }
    frame->crc = crc32_update(frame->crc, data, size);
    return RCT_OK;
}

rct_status_t rct_frame_end_read(rct_frame_t *frame)
{
    uint8_t crc[4];
    if (!rct_port_read(crc, sizeof crc)) {
        return RCT_ERR_STREAM;
    }
    return get_u32(crc) == (frame->crc ^ 0xFFFFFFFFu) ? RCT_OK : RCT_ERR_CHECKSUM;
}

rct_status_t rct_frame_begin_write(rct_frame_t *frame, uint8_t command, rct_status_t status, uint32_t size)
{
    uint8_t header[HEADER_BYTES + 4] = {'R', 'T', RCT_FRAME_VERSION, 0};
    header[3] = (uint8_t)(command | RCT_FRAME_RESPONSE);
    put_u32(header + 4, size + 4);
    put_u32(header + 8, (uint32_t)status);
    frame->crc = 0xFFFFFFFFu;
    return rct_frame_write(frame, header, sizeof header);
}

rct_status_t rct_frame_write(rct_frame_t *frame, const void *data, uint32_t size)
{
    frame->crc = crc32_update(frame->crc, data, size);
    return rct_port_write(data, size) ? RCT_OK : RCT_ERR_STREAM;
}

rct_status_t rct_frame_end_write(rct_frame_t *frame)
{
    uint8_t crc[4];
    put_u32(crc, frame->crc ^ 0xFFFFFFFFu);
    return rct_port_write(crc, sizeof crc) ? RCT_OK : RCT_ERR_STREAM;
}
